import shutil

import pytest

from stages.cli import InputError
from stages.download.hub import fetch_hub
from stages.download.manifest import MANIFEST, revision_in
from stages.params import Hub


def params(**changes):
    values = {"repository": "some/photos", "revision": "main", "train_archives": [0, 2], "test_archives": [0]}
    return Hub(**{**values, **changes})


COMMIT = "0123456789abcdef0123456789abcdef01234567"
WANTED = ["train.csv", "test.csv", "images/train/00.zip", "images/train/02.zip", "images/test/00.zip"]


@pytest.fixture
def fetched(contents):
    return lambda folder: {path: content for path, content in contents(folder).items() if path != MANIFEST}


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def test_the_csvs_and_the_named_archives_are_fetched_and_nothing_else_is_left(hub, raw, fetched, source_files):
    assert fetch_hub(params(), raw) == (WANTED, COMMIT)
    assert fetched(raw) == {path: source_files[path] for path in WANTED}
    assert sorted(hub.downloads) == sorted(WANTED)
    assert {path.name for path in raw.iterdir()} == {"images", "train.csv", "test.csv", MANIFEST}


def test_all_archives_can_be_asked_for(hub, raw, source_files):
    paths, _ = fetch_hub(params(train_archives="all", test_archives="all"), raw)
    assert sorted(paths) == sorted(set(source_files) - {"README.md"})


def test_a_second_run_fetches_nothing_and_needs_no_network(hub, raw):
    fetch_hub(params(), raw)
    hub.downloads.clear()
    hub.status["some/photos"] = (500, "")
    assert fetch_hub(params(), raw) == (WANTED, COMMIT)
    assert hub.downloads == []


def test_another_archive_is_fetched_alone_and_at_the_first_runs_commit(hub, raw):
    fetch_hub(params(), raw)
    hub.downloads.clear()
    hub.head = "f" * 40  # main has moved on
    _, commit = fetch_hub(params(train_archives=[0, 1, 2]), raw)
    assert hub.downloads == ["images/train/01.zip"]
    assert commit == COMMIT


def test_a_killed_run_goes_on_with_its_commit(hub, raw):
    hub.promised["images/test/00.zip"] = b"what never comes"
    with pytest.raises(InputError):
        fetch_hub(params(), raw)
    assert revision_in(raw) == COMMIT
    hub.head, hub.promised = "f" * 40, {}
    hub.downloads.clear()
    assert fetch_hub(params(), raw)[1] == COMMIT
    assert hub.downloads == ["images/test/00.zip"]


@pytest.mark.parametrize("promised", [b"first training archivE", b"longer than the first training archive"])
def test_a_file_that_is_not_what_the_hub_promised_is_not_kept(hub, raw, promised, fetched, source_files):
    hub.promised["images/train/00.zip"] = promised
    with pytest.raises(InputError, match="images/train/00.zip came as 22 bytes that differ .* run again"):
        fetch_hub(params(), raw)
    assert fetched(raw) == {path: source_files[path] for path in ("train.csv", "test.csv")}


def test_archives_that_the_hub_does_not_have_are_named_with_those_it_has(hub, raw):
    with pytest.raises(
        InputError, match=r"no images/train/07.zip, images/train/98.zip; set data.hub.train_archives .* 0, 1, 2"
    ):
        fetch_hub(params(train_archives=[0, 7, 98]), raw)
    assert hub.downloads == []


def test_a_data_set_in_another_layout_is_refused(hub, raw):
    del hub.files["test.csv"]
    with pytest.raises(InputError, match="has no test.csv; data.hub.repository must be a data set in OSV5M's layout"):
        fetch_hub(params(), raw)


def test_a_wrong_revision_is_named(hub, raw):
    with pytest.raises(InputError, match="data.hub.revision 'v9' is no branch, tag or commit of some/photos; see http"):
        fetch_hub(params(revision="v9"), raw)


def test_a_wrong_repository_is_named(hub, raw):
    with pytest.raises(InputError, match="data.hub.repository 'some/fotos' is not on http.*hf auth login"):
        fetch_hub(params(repository="some/fotos"), raw)


def test_a_gated_repository_says_where_to_accept_its_terms(hub, raw):
    hub.status["some/photos"] = (403, "GatedRepo")
    with pytest.raises(InputError, match=r"some/photos is gated; accept its terms at http.*/datasets/some/photos"):
        fetch_hub(params(), raw)


def test_a_refused_token_and_a_broken_server_are_told(hub, raw):
    hub.status["some/photos"] = (403, "")
    with pytest.raises(InputError, match="answered 403; try again later, or check your token"):
        fetch_hub(params(), raw)


def test_without_a_network_the_way_out_is_told(hub, raw, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="http://127.0.0.1:9 can't be reached .* set data.source to mirror"):
        fetch_hub(params(), raw)


def test_a_disk_that_is_too_small_is_told_in_numbers_before_anything_comes(hub, raw, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**5))
    with pytest.raises(InputError, match=r"needs 0.0 GB for 5 files, its disk has 0.0 GB free; name fewer archives"):
        fetch_hub(params(), raw)
    assert hub.downloads == []
