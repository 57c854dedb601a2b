import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from stages.features.encoder import UNTRAINED, load_encoder
from stages.shards import SHARD_SCHEMA


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads that wait for each other on busy cores take longer than such small work."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def photo():
    """A function that gives a photo: coarse coloured noise of a seed, in any size and mode."""

    def make(seed, size=(48, 32), mode="RGB"):
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
        return Image.fromarray(pixels).resize(size).convert(mode)

    return make


@pytest.fixture
def jpeg(photo):
    """A function that gives the bytes of such a photo as a JPEG."""

    def make(seed, **options):
        buffer = io.BytesIO()
        photo(seed, **options).save(buffer, "JPEG")
        return buffer.getvalue()

    return make


@pytest.fixture
def write_shard():
    """A function that writes a Parquet shard of images, id to bytes, as the shard stage does; gives its path."""

    def write(path, images):
        n = len(images)
        columns = {"id": list(images), "image": list(images.values()), "latitude": [1.5] * n, "longitude": [-2.5] * n}
        columns |= {"country": ["KE"] * n, "sequence": [f"s{i}" for i in images]}
        table = pa.table([pa.array(columns.get(f.name, [None] * n), f.type) for f in SHARD_SCHEMA], schema=SHARD_SCHEMA)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=8)
        return path

    return write


@pytest.fixture(scope="session")
def encoder():
    return load_encoder("varioclip-tiny", UNTRAINED, 1)
