import functools
import os
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

from stages.cli import InputError
from stages.download.mirror import fetch_mirror
from stages.params import Mirror


@pytest.fixture
def all_files(source_files):
    """What a mirror of the source must give."""
    return {path: content for path, content in source_files.items() if path != "README.md"}


def params(url, train="all", test="all"):
    return Mirror(url=str(url), train_archives=train, test_archives=test)


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw"


def test_a_local_mirror_is_linked_and_not_copied(mirror, raw, contents, all_files):
    paths, revision = fetch_mirror(params(mirror), raw)
    assert contents(raw) == all_files
    assert (sorted(paths), revision) == (sorted(all_files), None)
    assert (raw / "images/train/02.zip").samefile(mirror / "images/train/02.zip")


def test_a_mirror_on_another_disk_is_copied(mirror, raw, monkeypatch, contents, all_files):
    def link(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    fetch_mirror(params(mirror), raw)
    assert contents(raw) == all_files
    assert not (raw / "train.csv").samefile(mirror / "train.csv")


def test_a_file_url_is_a_mirror_too(mirror, raw, contents, all_files):
    fetch_mirror(params(f"file://{mirror}/"), raw)
    assert contents(raw) == all_files


def test_any_file_system_of_fsspec_is_a_mirror(raw, contents, source_files, all_files):
    memory = fsspec.filesystem("memory")
    for path, content in source_files.items():
        memory.pipe_file(f"/photos/{path}", content)
    fetch_mirror(params("memory://photos", train=[2, 1]), raw)
    assert contents(raw) == {path: content for path, content in all_files.items() if path != "images/train/00.zip"}


def test_a_web_server_is_a_mirror_and_a_second_run_fetches_nothing(mirror, raw, contents, all_files):
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(mirror)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        fetch_mirror(params(url), raw)
        assert contents(raw) == all_files
        asked.clear()
        fetch_mirror(params(url, train=[0, 1, 2], test=[0]), raw)
        # Only what it does not have is looked for again.
        assert set(asked) == {"/geography/places.csv", "/geography/coastlines.csv"}
        with pytest.raises(InputError, match=rf"{url}/images/train/05.zip is missing; take its number out"):
            fetch_mirror(params(url, train=[5]), raw)
    finally:
        server.shutdown()
        server.server_close()


def test_its_own_geography_comes_along(mirror, raw):
    (mirror / "geography").mkdir()
    (mirror / "geography" / "places.csv").write_text("lat,lon,name,admin1,admin2,cc\n")
    paths, _ = fetch_mirror(params(mirror), raw)
    assert "geography/places.csv" in paths
    assert (raw / "geography" / "places.csv").exists()


def test_a_file_of_another_size_is_fetched_again_and_others_are_not(mirror, raw):
    fetch_mirror(params(mirror), raw)
    (mirror / "test.csv").unlink()
    (mirror / "test.csv").write_bytes(b"other rows")
    before = (raw / "train.csv").stat().st_ino
    fetch_mirror(params(mirror), raw)
    assert (raw / "test.csv").read_bytes() == b"other rows"
    assert (raw / "train.csv").stat().st_ino == before


def test_a_folder_that_is_not_there_is_named(tmp_path, raw):
    with pytest.raises(InputError, match=rf"data.mirror.url {tmp_path}/nowhere is not a folder; name a folder"):
        fetch_mirror(params(tmp_path / "nowhere"), raw)


@pytest.mark.parametrize("missing", ["train.csv", "test.csv"])
def test_a_missing_csv_is_named(mirror, raw, missing):
    (mirror / missing).unlink()
    with pytest.raises(InputError, match=rf"{mirror}/{missing} is missing; OSV5M's layout has train.csv"):
        fetch_mirror(params(mirror), raw)
    assert not raw.exists()


def test_a_split_without_archives_is_named(mirror, raw):
    (mirror / "images/test/00.zip").unlink()
    with pytest.raises(InputError, match=rf"{mirror}/images/test shows no archive NN.zip; check data.mirror.url"):
        fetch_mirror(params(mirror), raw)
    (mirror / "images/test").rmdir()
    with pytest.raises(InputError, match=rf"{mirror}/images/test shows no archive NN.zip; check data.mirror.url"):
        fetch_mirror(params(mirror), raw)


def test_a_missing_archive_is_named_and_nothing_is_copied(mirror, raw):
    with pytest.raises(
        InputError, match=r"images/train/07.zip is missing; take its number out of data.mirror.train_arch"
    ):
        fetch_mirror(params(mirror, train=[1, 7]), raw)
    assert not raw.exists()


@pytest.mark.parametrize("url", ["nosuch://photos", "http://127.0.0.1:9/photos"])
def test_a_url_that_cannot_be_opened_is_named(url, raw):
    with pytest.raises(InputError, match=f"data.mirror.url {url} can't be read .*; check the URL, the network"):
        fetch_mirror(params(url, train=[0], test=[0]), raw)


def test_a_disk_that_is_too_small_is_told_before_anything_is_copied(raw, monkeypatch, source_files):
    memory = fsspec.filesystem("memory")
    for path, content in source_files.items():
        memory.pipe_file(f"/photos/{path}", content)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**5))
    message = r"needs 0.0 GB for 6 files, its disk has 0.0 GB free; name fewer archives in data.mirror.train_archives"
    with pytest.raises(InputError, match=message):
        fetch_mirror(params("memory://photos"), raw)
    assert list(raw.rglob("*.*")) == []


def test_a_mirror_on_the_same_disk_takes_no_room(mirror, raw, monkeypatch, contents, all_files):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 0))
    fetch_mirror(params(mirror), raw)
    assert contents(raw) == all_files
