"""One Parquet shard of images to its Arrow shard of features; one Arrow shard to its centred twin."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from stages.cli import InputError
from stages.features.encoder import Encoder, center
from stages.shards import feature_schema, written_whole

RECORD_BATCH = 4096  # photos
_MADE_FROM = b"made_from"


def made_from(path: Path) -> str | None:
    """What an Arrow shard says that it was made from; None if it is not there."""
    if not path.exists():
        return None
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).schema.metadata[_MADE_FROM].decode()


def encode_shard(
    images: Path,
    out: Path,
    load: Callable[[], Encoder],
    facts: str,
    batch_size: int,
    *,
    n_cores: int,
    advance: Callable,
) -> None:
    """Write the places and unit features of a Parquet shard; advance(n) is told after every n photos.

    load: gives the encoder; a node of a cluster has to make its own.
    Each thread decodes and encodes a batch of its own: none waits for another, a GPU is fed by all of them, and the
    features do not depend on how many there are.
    Raises InputError if an image cannot be decoded or has no feature.
    """
    encoder = load()

    def embed(batch: pa.RecordBatch) -> np.ndarray:
        photos = zip(batch["id"].to_pylist(), batch["image"].to_pylist(), strict=True)
        return encoder.encode(
            torch.stack([_preprocessed(encoder, data, f"{images}: photo {name}") for name, data in photos])
        )

    with (
        pq.ParquetFile(images) as file,
        written_whole(out) as temporary,
        _Writer(temporary, encoder.width, facts) as writer,
        ThreadPoolExecutor(n_cores, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        for batch, feature in _in_order(pool, embed, file.iter_batches(batch_size), n_ahead=n_cores):
            writer.write(batch.drop_columns("image"), feature)
            advance(len(batch))


def center_shard(uncentered: Path, out: Path, mean: np.ndarray, facts: str) -> None:
    """Write the shard's features minus the mean (d,), normalised again.

    Raises InputError for a photo whose feature is the mean.
    """
    with pa.memory_map(str(uncentered)) as source, written_whole(out) as temporary:
        reader = pa.ipc.open_file(source)
        with _Writer(temporary, len(mean), facts) as writer:
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                writer.write(batch.drop_columns("feature"), center(features_of(batch).astype(np.float32), mean))


def features_of(batch: pa.RecordBatch) -> np.ndarray:
    """Features (n, d) float16 of a record batch."""
    column = batch["feature"]
    return column.flatten().to_numpy().reshape(len(batch), column.type.list_size)


def sum_of_features(path: Path) -> np.ndarray:
    """Sum (d,) float64 of a shard's features."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        width = reader.schema.field("feature").type.list_size
        batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        return sum((features_of(batch).sum(axis=0, dtype=np.float64) for batch in batches), np.zeros(width))


def _preprocessed(encoder: Encoder, data: bytes, name: str) -> torch.Tensor:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return encoder.preprocess(image)
    except Exception as error:  # damaged bytes make decoders raise nearly anything
        raise InputError(f"{name} cannot be decoded ({error}); delete the shard and run: dvc repro shard") from error


def _in_order(pool: Executor, function: Callable, items: Iterable, *, n_ahead: int) -> Iterator[tuple]:
    """(item, function(item)) pairs in the items' order, at most n_ahead of them running or waiting meanwhile."""
    running = deque()
    for item in items:
        running.append((item, pool.submit(function, item)))
        if len(running) > n_ahead:
            item, future = running.popleft()
            yield item, future.result()
    for item, future in running:
        yield item, future.result()


class _Writer:
    """Writes places and features to an Arrow file, in record batches whose size does not depend on who writes them."""

    def __init__(self, path: Path, width: int, facts: str):
        self.schema = feature_schema(width).with_metadata({_MADE_FROM: facts})
        self.file = pa.ipc.new_file(str(path), self.schema)
        self.waiting = self.schema.empty_table()

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        if error is None:
            self.file.write_table(self.waiting.combine_chunks())
        self.file.close()

    def write(self, places: pa.RecordBatch, feature: np.ndarray) -> None:
        """Append n places and their features (n, d). Raises InputError if a feature is not a unit vector."""
        feature = feature.astype(np.float16)
        length = np.linalg.norm(feature.astype(np.float32), axis=1)
        if not np.allclose(length, 1, atol=1e-2):  # float16 has 11 bits; NaN fails too
            worst = int(np.argmax(np.where(np.isfinite(length), abs(length - 1), np.inf)))
            raise InputError(
                f"photo {places['id'][worst]}: its feature has length {length[worst]}, not 1; check the weights that "
                "features.pretrained names, or set features.center to false if the photo is like the mean of all"
            )
        column = pa.FixedSizeListArray.from_arrays(pa.array(feature.ravel()), feature.shape[1])
        batch = pa.record_batch([*places.columns, column], schema=self.schema)
        self.waiting = pa.concat_tables([self.waiting, pa.Table.from_batches([batch])])
        while len(self.waiting) >= RECORD_BATCH:
            self.file.write_table(self.waiting.slice(0, RECORD_BATCH).combine_chunks())
            self.waiting = self.waiting.slice(RECORD_BATCH)
