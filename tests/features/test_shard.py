import io
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from stages.cli import InputError
from stages.features import shard as module
from stages.features.encoder import center
from stages.features.shard import center_shard, encode_shard, made_from, sum_of_features
from stages.shards import PLACE_FIELDS, feature_schema


@pytest.fixture
def encode(encoder, tmp_path):
    """A function that embeds a Parquet shard; gives the Arrow shard's path and what advance was told."""

    def run(images, batch_size=4, n_threads=2, encoder=encoder, out="out.arrow"):
        told = []
        options = {"batch_size": batch_size, "facts": "these", "n_cores": n_threads, "advance": told.append}
        encode_shard(images, tmp_path / out, lambda: encoder, **options)
        return tmp_path / out, told

    return run


@pytest.fixture
def images(tmp_path, write_shard, jpeg):
    """A shard of ten photos: with batches of four the last is short, with row groups of eight they cross one."""
    return write_shard(tmp_path / "images.parquet", {f"{i}": jpeg(i) for i in range(10)})


def read(path):
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def features(path):
    return np.array(read(path)["feature"].to_pylist())


def test_a_photo_keeps_its_place_and_gets_its_feature(images, encode, encoder, photo, jpeg):
    path, told = encode(images)
    table, source = read(path), pq.read_table(images)
    assert table.schema.equals(feature_schema(encoder.width))
    assert table.drop_columns("feature").equals(source.drop_columns("image"))
    assert told == [4, 4, 2]
    assert made_from(path) == "these"
    pictures = [encoder.preprocess(Image.open(io.BytesIO(jpeg(i)))) for i in range(10)]
    # Half a float16 step below 1 is 2.4e-4.
    np.testing.assert_allclose(features(path), encoder.encode(torch.stack(pictures)), atol=3e-4)


def test_other_batches_give_the_same_features(images, encode):
    whole, _ = encode(images, 10, out="whole.arrow")
    for batch_size in (1, 3, 8):
        path, told = encode(images, batch_size)
        assert sum(told) == 10
        # Products of other sizes round otherwise in float32's last digits: then a float16 may be one step away.
        np.testing.assert_allclose(features(path), features(whole), atol=5e-4)


def test_any_number_of_threads_gives_the_same_bytes(images, encode):
    one, two, five = (encode(images, 2, n, out=f"{n}.arrow")[0].read_bytes() for n in (1, 2, 5))
    assert one == two == five


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 10])
def test_record_batches_do_not_depend_on_the_batch_size(images, encode, monkeypatch, batch_size):
    monkeypatch.setattr(module, "RECORD_BATCH", 4)
    path, _ = encode(images, batch_size)
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert [name for batch in batches for name in batch["id"].to_pylist()] == [f"{i}" for i in range(10)]
    monkeypatch.undo()
    np.testing.assert_allclose(features(path), features(encode(images, out="one.arrow")[0]), atol=5e-4)
    np.testing.assert_allclose(sum_of_features(path), features(path).sum(axis=0), atol=1e-9)


def test_an_empty_shard_has_no_features(tmp_path, write_shard, encode, encoder):
    path, told = encode(write_shard(tmp_path / "images.parquet", {}))
    assert (read(path).num_rows, told) == (0, [])
    assert not sum_of_features(path).any()
    center_shard(path, tmp_path / "centred.arrow", np.ones(encoder.width, np.float32), "those")
    assert read(tmp_path / "centred.arrow").schema.equals(feature_schema(encoder.width))


@pytest.mark.parametrize("n_ahead", [1, 2, 5])
def test_batches_come_in_order_and_few_are_held_at_a_time(n_ahead):
    held, most = 0, 0

    def items():
        nonlocal held, most
        for item in range(9):
            held += 1
            most = max(most, held)
            yield item

    def function(item):
        time.sleep(0.01 if item % 3 == 0 else 0)  # later ones overtake
        return -item

    with ThreadPoolExecutor(2) as pool:
        pairs = []
        for pair in module._in_order(pool, function, items(), n_ahead=n_ahead):
            pairs.append(pair)
            held -= 1
    assert pairs == [(item, -item) for item in range(9)]
    assert most == n_ahead + 1


def test_a_photo_that_cannot_be_decoded_is_named_and_leaves_no_file(tmp_path, write_shard, encode, jpeg):
    for damaged in (b"no photo", b"", jpeg(1)[:400]):
        path = write_shard(tmp_path / "images.parquet", {"7": jpeg(0), "8": damaged})
        with pytest.raises(
            InputError, match=r"images\.parquet: photo 8 cannot be decoded .*; delete the shard and run"
        ):
            encode(path, out="new/out.arrow")
        assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_photo_without_a_unit_feature_is_named(images, encode, value):
    class Odd:
        width = 4

        def preprocess(self, image):
            return torch.zeros(1)

        def encode(self, batch):
            feature = np.full((len(batch), 4), 0.5, np.float32)
            feature[1] = value
            return feature

    with pytest.raises(InputError, match=r"photo 1: its feature has length .*, not 1; check the weights that features"):
        encode(images, encoder=Odd())


def test_a_centred_shard_lacks_the_mean(images, encode, tmp_path):
    unit, _ = encode(images)
    mean = (sum_of_features(unit) / 10).astype(np.float32)
    np.testing.assert_allclose(mean, features(unit).mean(axis=0), rtol=1e-6)
    center_shard(unit, tmp_path / "centred.arrow", mean, "those")
    np.testing.assert_allclose(
        features(tmp_path / "centred.arrow"), center(features(unit).astype(np.float32), mean), atol=3e-4
    )
    places = pl.from_arrow(read(unit).drop_columns("feature"))
    assert places.columns == [field.name for field in PLACE_FIELDS]
    assert places.equals(pl.from_arrow(read(tmp_path / "centred.arrow").drop_columns("feature")))
    assert made_from(tmp_path / "centred.arrow") == "those"


def test_a_photo_that_is_the_mean_is_named_with_the_way_out(images, encode, tmp_path):
    unit, _ = encode(images)
    with pytest.raises(InputError, match="photo 3: its feature has length 0.0, .* set features.center to false"):
        center_shard(unit, tmp_path / "centred.arrow", features(unit)[3].astype(np.float32), "those")
    assert not (tmp_path / "centred.arrow").exists()


def test_a_shard_that_is_not_there_was_made_from_nothing(tmp_path):
    assert made_from(tmp_path / "none.arrow") is None
