import io
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

    def run(images, batch_size=4, encoder=encoder, out="out.arrow"):
        told = []
        with ThreadPoolExecutor(2) as pool:
            encode_shard(
                images,
                tmp_path / out,
                encoder,
                batch_size=batch_size,
                facts="these",
                pool=pool,
                advance=told.append,
            )
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


def test_the_same_batches_give_the_same_bytes(images, encode):
    one, again = (encode(images, out=name)[0].read_bytes() for name in ("one.arrow", "again.arrow"))
    assert one == again


def test_an_empty_shard_has_no_features(tmp_path, write_shard, encode, encoder):
    path, told = encode(write_shard(tmp_path / "images.parquet", {}))
    assert (read(path).num_rows, told) == (0, [])
    assert not sum_of_features(path).any()
    center_shard(path, tmp_path / "centred.arrow", np.ones(encoder.width, np.float32), "those")
    assert read(tmp_path / "centred.arrow").schema.equals(feature_schema(encoder.width))


def test_the_next_batch_is_decoded_before_this_one_is_handed_out():
    events = []

    def items():
        for name in "abc":
            events.append(f"read {name}")
            yield name

    for name, started in module._one_ahead(items(), lambda name: events.append(f"start {name}") or name.upper()):
        events.append(f"use {name}{started}")
    assert " ".join(events) == (
        "read a start a read b start b use aA read c start c use bB use cC"  # at most two batches are held
    )


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
