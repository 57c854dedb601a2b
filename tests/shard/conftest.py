import io
import zipfile

import numpy as np
import polars as pl
import pytest
from PIL import Image

from stages.shard import archive

PLACE = ("id", "latitude", "longitude", "sequence")
UNKNOWN = ("country", "captured_at", "region", "sub-region", "city", "unique_city")


@pytest.fixture(autouse=True)
def _fresh_archives():
    """Archives are kept open by path; tests rewrite them."""
    yield
    archive._opened.cache_clear()


@pytest.fixture
def photo():
    """A function that gives the bytes of a photo: noise of a seed, in any size, mode and format."""

    def make(seed=0, size=(48, 32), mode="RGB", form="JPEG", **options):
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
        return buffer.getvalue()

    return make


@pytest.fixture
def zipped(tmp_path):
    """A function that writes members, name to bytes, to an archive; gives its path."""

    def write(path, members):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as file:
            for name, data in members.items():
                file.writestr(zipfile.ZipInfo(name), data)
        return path

    return write


@pytest.fixture
def csv_of():
    """A function that gives a CSV in OSV5M's columns for places, (id, latitude, longitude, sequence) each."""

    def csv(places):
        rows = pl.DataFrame([tuple(map(str, place)) for place in places], schema=PLACE, orient="row")
        return rows.with_columns(pl.lit(None, pl.String).alias(name) for name in UNKNOWN).write_csv()

    return csv
