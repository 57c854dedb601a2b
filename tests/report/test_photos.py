import base64
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages.report.photos import data_uri, read_photos, thumbnail
from stages.shards import SHARD_SCHEMA


def write_shard(path, photos):
    n = len(photos)
    values = {"id": list(photos), "latitude": [0.0] * n, "longitude": [0.0] * n, "image": list(photos.values())}
    table = pa.table([pa.array(values.get(f.name, [None] * n), f.type) for f in SHARD_SCHEMA], SHARD_SCHEMA)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)


def test_photos_are_found_in_any_split_shard_and_row_group(tmp_path):
    write_shard(tmp_path / "train/00000.parquet", {f"a{i}": b"a%d" % i for i in range(5)})
    write_shard(tmp_path / "train/00001.parquet", {"b0": b"b0"})
    write_shard(tmp_path / "test/00000.parquet", {"c0": b"c0", "c1": b"c1"})
    assert read_photos(tmp_path, ["a4", "b0", "c1", "c1"]) == {"a4": b"a4", "b0": b"b0", "c1": b"c1"}
    assert read_photos(tmp_path, []) == {}


def decoded(uri):
    head, data = uri.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((400, 240), (200, 120)), ((64, 48), (64, 48)), ((1, 500), (1, 120)), ((240, 120), (240, 120))],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_thumbnail_is_at_most_120_px_high_and_never_enlarged(size, expected, mode):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "JPEG")
    photo = decoded(thumbnail(buffer.getvalue()))
    assert photo.size == expected
    assert photo.mode == "RGB"


def test_a_data_uri_is_base64():
    assert data_uri(b"abc", "image/png") == "data:image/png;base64,YWJj"
