"""Photos per second of the features stage, its encoder alone and a plain loop: python -m tests.benchmarks.features.

The floor is the same encoder on tensors that are decoded already. The plain loop is what a user of open_clip writes:
read, decode, preprocess and encode a batch, then the next. Photos are coarse noise as JPEGs, weights are random.
"""

import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from stages.cli import show_table
from stages.features.encoder import UNTRAINED, load_encoder, open_clip
from stages.features.shard import encode_shard
from stages.shards import SHARD_SCHEMA, read_features

CASES = (("varioclip-tiny", (128, 96), 512, 128), ("ViT-B-32", (341, 256), 64, 32))  # the world's photos, and OSV5M's
N_REPEATS = 3


def write_photos(path: Path, n: int, size: tuple[int, int]) -> None:
    """Write a Parquet shard of n JPEGs of size (width, height)."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(n):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize(size).save(buffer, "JPEG", quality=90)
        images.append(buffer.getvalue())
    columns = {"id": [str(i) for i in range(n)], "latitude": np.zeros(n), "longitude": np.zeros(n), "image": images}
    table = pa.table([pa.array(columns.get(f.name, [None] * n), f.type) for f in SHARD_SCHEMA], schema=SHARD_SCHEMA)
    pq.write_table(table, path, row_group_size=512, compression="none")


@torch.inference_mode()
def plain_loop(model, preprocess, images: list[bytes], batch_size: int, device: torch.device) -> np.ndarray:
    """Unit features (n, d) as open_clip's README computes them, a batch at a time."""
    features = []
    for start in range(0, len(images), batch_size):
        batch = [preprocess(Image.open(io.BytesIO(data))) for data in images[start : start + batch_size]]
        features.append(model.encode_image(torch.stack(batch).to(device), normalize=True).cpu())
    return torch.cat(features).numpy()


def fastest(works: dict) -> dict:
    """Shortest wall time of each call; they take turns, so that a busy machine is busy for all."""
    times = {name: [] for name in works}
    for _ in range(N_REPEATS):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return {name: min(its_times) for name, its_times in times.items()}


def compare(name: str, size: tuple[int, int], n: int, batch_size: int, folder: Path) -> list[tuple]:
    """Rows of photos per second for one encoder and one size of photo."""
    encoder = load_encoder(name, UNTRAINED, 0)
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval().to(encoder.device)
    shard, out = folder / f"{name}.parquet", folder / name / "00000.arrow"
    write_photos(shard, n, size)
    images = pq.read_table(shard, columns=["image"])["image"].to_pylist()
    batch = torch.stack([encoder.preprocess(Image.open(io.BytesIO(data))) for data in images[:batch_size]])
    n_cores = len(os.sched_getaffinity(0))

    options = {"batch_size": batch_size, "facts": "", "n_cores": n_cores, "advance": lambda n: None}
    seconds = fastest(
        {
            "encoder alone": lambda: [encoder.encode(batch) for _ in range(n // batch_size)],
            "stage": lambda: encode_shard(shard, out, lambda: encoder, **options),
            "plain loop": lambda: plain_loop(model, preprocess, images, batch_size, encoder.device),
        }
    )
    stored = read_features(out.parent)[1][:]
    error = abs(stored - plain_loop(model, preprocess, images, batch_size, encoder.device)).max()
    assert error < (5e-4 if encoder.device.type == "cpu" else 2e-2), error  # float16; bfloat16 on a GPU
    case = f"{name}, {size[0]} x {size[1]}"
    return [(f"{case}: {what}", f"{n / s:,.0f}", f"{s / seconds['encoder alone']:.2f}") for what, s in seconds.items()]


def main() -> None:
    """Time the stage's work for each case and show it."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for case in CASES for row in compare(*case, Path(folder))]
    title = f"Embedding on {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} torch threads"
    show_table(title, ("what", "photos/s", "time over the encoder's"), rows)


if __name__ == "__main__":
    main()
