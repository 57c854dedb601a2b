import pytest
import torch

from stages.predict import cache

ROWS = torch.arange(20.0).reshape(10, 2)


@pytest.fixture
def release(tmp_path):
    for name in cache.KEPT_FROM:
        (tmp_path / name).write_text(name)
    return tmp_path


def test_embeddings_are_kept_and_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "GALLERY_CHUNK", 4)
    path = tmp_path / "new" / "gallery.npy"
    first = list(cache.kept(path, 10, lambda: ROWS.split(3), torch.device("cpu")))
    again = list(cache.kept(path, 10, lambda: pytest.fail("was kept"), torch.device("cpu")))
    assert [len(chunk) for chunk in first] == [4, 4, 2]
    assert torch.equal(torch.cat(first), ROWS)
    assert torch.equal(torch.cat(again), ROWS)


def test_embedding_that_stops_halfway_leaves_nothing(tmp_path):
    def stops():
        yield ROWS[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.kept(tmp_path / "gallery.npy", 10, stops, torch.device("cpu"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", cache.KEPT_FROM)
def test_another_release_has_another_file(release, name):
    before = cache.cache_file(release, release)
    (release / name).write_text("changed")
    assert cache.cache_file(release, release) != before


def test_the_same_release_copied_elsewhere_has_the_same_file(release, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy")
    for name in cache.KEPT_FROM:
        (copy / name).write_bytes((release / name).read_bytes())
    assert cache.cache_file(release, copy) == cache.cache_file(release, release)


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "varioclip"
