import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from stages.predict import cache

ROWS = torch.arange(20.0).reshape(10, 2)
FILES = ("model.safetensors", "config.json", "mine.csv")


@pytest.fixture
def release(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def file_of(tmp_path_factory, release):
    """A function that gives the cache file of a release as it is now."""
    folder = tmp_path_factory.mktemp("cache") / "new"
    return lambda of=release: cache.cache_file(folder, of, of / "mine.csv")


def test_embeddings_are_read_as_they_were_kept(file_of, monkeypatch):
    monkeypatch.setattr(cache, "GALLERY_CHUNK", 4)
    cache.keep(file_of(), 10, ROWS.split(3))
    kept = cache.read(file_of())
    np.testing.assert_array_equal(kept, ROWS)
    chunks = list(cache.on_device(kept, torch.device("cpu")))
    assert [len(chunk) for chunk in chunks] == [4, 4, 2]
    assert torch.equal(torch.cat(chunks), ROWS)


def test_embedding_that_stops_halfway_leaves_nothing(file_of):
    def stops():
        yield ROWS[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.keep(file_of(), 10, stops())
    assert list(file_of().parent.iterdir()) == []


def test_two_at_once_do_not_write_into_each_others_file(file_of):
    def slowly():
        for chunk in ROWS.split(1):
            time.sleep(0.01)
            yield chunk

    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: cache.keep(file_of(), 10, slowly()), range(4)))
    np.testing.assert_array_equal(cache.read(file_of()), ROWS)
    assert list(file_of().parent.iterdir()) == [file_of()]


@pytest.mark.parametrize("name", FILES)
def test_a_release_that_changes_has_another_file_in_place_of_the_one_before(file_of, release, name):
    before = file_of()
    cache.keep(before, 10, [ROWS])
    (release / name).write_text("changed")
    assert file_of() != before
    cache.keep(file_of(), 10, [ROWS])
    assert list(before.parent.iterdir()) == [file_of()]


def test_other_releases_keep_theirs(file_of, release, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for name in FILES:
        (other / name).write_bytes((release / name).read_bytes())
    cache.keep(file_of(), 10, [ROWS])
    cache.keep(file_of(other), 10, [ROWS])
    assert file_of().exists()


def test_what_a_killed_process_left_is_removed_in_time(file_of):
    file_of().parent.mkdir()
    old, new = (file_of().with_name(f".gallery-{name}.npy.x.partial") for name in ("old", "new"))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    cache.keep(file_of(), 10, [ROWS])
    assert (old.exists(), new.exists()) == (False, True)


def test_a_disk_that_is_full_is_an_error_and_leaves_nothing(file_of, monkeypatch):
    def full(file, *_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        cache.keep(file_of(), 10, [ROWS])
    assert list(file_of().parent.iterdir()) == []


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "varioclip"
