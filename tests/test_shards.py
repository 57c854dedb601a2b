import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import shards


def write_features(path, first_id, features):
    n, width = features.shape
    columns = {
        "id": [str(first_id + i) for i in range(n)],
        "latitude": np.linspace(-90, 90, n),
        "longitude": np.linspace(-180, 180, n),
        **{name: [None] * n for name in ("country", "region", "sub_region", "city", "sequence", "captured_at")},
        "feature": pa.FixedSizeListArray.from_arrays(pa.array(features.ravel(), pa.float16()), width),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = shards.feature_schema(width)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.table(columns, schema=schema), max_chunksize=4)


def test_features_of_many_shards_read_as_one_matrix(tmp_path):
    whole = np.random.default_rng(0).normal(size=(17, 3)).astype(np.float16)
    write_features(tmp_path / "00000.arrow", 0, whole[:10])
    write_features(tmp_path / "00002.arrow", 10, whole[10:])
    write_features(tmp_path / "00001.arrow", 0, whole[:0])
    places, rows = shards.read_features(tmp_path)
    assert places["id"].to_list() == [str(i) for i in range(17)]
    assert places.schema["sub_region"] == pl.String
    assert rows.shape == (17, 3)
    np.testing.assert_array_equal(rows[:], whole)
    np.testing.assert_array_equal(rows[3:15:2], whole[3:15:2])
    picked = np.array([16, 0, 9, 10, 0])
    np.testing.assert_array_equal(rows[picked], whole[picked])
    np.testing.assert_array_equal(rows[np.array([-1])], whole[-1:])
    assert rows[np.array([], int)].shape == (0, 3)
    for beyond in (17, -18):
        with pytest.raises(IndexError):
            rows[np.array([0, beyond])]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_rows_do_not_depend_on_how_they_are_cut(lengths, random):
    whole = np.arange(2 * sum(lengths), dtype=np.float16).reshape(-1, 2)
    rows = shards.FeatureRows(np.split(whole, np.cumsum(lengths)[:-1]))
    wanted = np.array([random.randrange(len(whole)) for _ in range(7)] if len(whole) else [], int)
    np.testing.assert_array_equal(rows[wanted], whole[wanted])


def test_a_folder_without_features_is_named(tmp_path):
    with pytest.raises(shards.InputError, match="holds no feature shards.*dvc repro"):
        shards.read_features(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    with pytest.raises(TypeError), shards.written_whole(path) as temporary:
        temporary.write_text("half") and temporary.write_bytes("not bytes")
    assert list(path.parent.iterdir()) == []
    with shards.written_whole(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_kept_only_if_it_was_made_from_the_same_facts(tmp_path):
    folder = tmp_path / "out"
    assert not shards.keep_if_made_from(folder, {"seed": 1, "names": ("a",)})
    (folder / "sub").mkdir()
    (folder / "sub" / "file").touch()
    assert shards.keep_if_made_from(folder, {"names": ("a",), "seed": 1})
    assert (folder / "sub" / "file").exists()
    assert not shards.keep_if_made_from(folder, {"seed": 2, "names": ("a",)})
    assert [path.name for path in folder.iterdir()] == [shards.FINGERPRINT]


def test_shards_are_listed_in_order_and_partial_files_are_not(tmp_path):
    for name in ("00010.arrow", "00002.arrow", ".00003.arrow.partial", "encoder.json", "00001.parquet"):
        (tmp_path / name).touch()
    assert [path.name for path in shards.list_shards(tmp_path, ".arrow")] == ["00002.arrow", "00010.arrow"]
    assert shards.list_shards(tmp_path / "absent", ".arrow") == []
