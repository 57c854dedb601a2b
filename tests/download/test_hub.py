import shutil
import threading

import numpy as np
import pytest

from stages.cli import InputError
from stages.download import transfer
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


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Seconds that were waited for the server, without waiting for them."""
    seconds = []
    monkeypatch.setattr(transfer, "_wait", lambda wait_s, stop: seconds.append(wait_s))
    return seconds


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
    assert "images/test/00.zip" in hub.downloads


@pytest.mark.parametrize("promised", [b"first training archivE", b"longer than the first training archive"])
def test_a_file_that_is_not_what_the_hub_promised_is_not_kept_and_the_next_run_completes(
    hub, raw, promised, fetched, source_files
):
    hub.promised["images/train/00.zip"] = promised
    with pytest.raises(InputError, match="images/train/00.zip came as 22 bytes that differ .* run again"):
        fetch_hub(params(), raw)
    assert not [path for path in fetched(raw) if path.startswith("images/train/") and "00.zip" in path]
    hub.promised.clear()
    fetch_hub(params(), raw)
    assert fetched(raw) == {path: source_files[path] for path in WANTED}


LARGE = "images/train/02.zip"


def test_connections_that_break_anywhere_are_continued_where_they_broke(hub, raw, fetched, source_files):
    hub.cuts = np.random.default_rng(0).integers(1, 200_000, 12).tolist()
    fetch_hub(params(), raw)
    assert fetched(raw) == {path: source_files[path] for path in WANTED}
    starts = [start for path, start in hub.ranges if path == LARGE]
    assert len(starts) > 6
    assert starts == sorted(set(starts))  # each continues where the one before it ended


def test_a_connection_that_breaks_before_the_first_byte_is_tried_again_later(hub, raw, waits):
    hub.cuts = [0, 0]
    fetch_hub(params(train_archives=[2]), raw)
    assert waits == [1, 1] or waits == [1, 2]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again_and_as_late_as_it_wants(hub, raw, status, waits, fetched, source_files):
    # The list of files is the first thing that is asked for.
    hub.failures = [(status, {}), (status, {"Retry-After": "77"}), (status, {})]
    fetch_hub(params(), raw)
    assert waits == [1, 77, 4]
    assert fetched(raw) == {path: source_files[path] for path in WANTED}


def test_whatever_the_network_says_is_told_on_one_line_and_not_among_the_results(waits, capsys):
    errors = [transfer.HTTPError(""), transfer.HTTPError("many\nlines")]

    def call():
        if errors:
            raise errors.pop(0)
        return "answer"

    assert transfer.patiently(call, transfer.HTTPError, threading.Event()) == "answer"
    out, error = capsys.readouterr()
    assert (out, error) == ("", "HTTPError: ; again in 1 s\nHTTPError: many; again in 2 s\n")


def test_a_server_that_fails_between_files_is_asked_again(hub, raw, waits, monkeypatch, fetched, source_files):
    fetch_hub(params(train_archives=[0]), raw)
    hub.failures = [(500, {})]
    monkeypatch.setattr(transfer, "FILES_AT_ONCE", 1)
    fetch_hub(params(train_archives=[0, 1, 2]), raw)
    assert waits == [1]


def test_a_server_that_stays_broken_is_told_and_the_next_run_completes(hub, raw, waits, fetched, source_files):
    hub.failures = [(503, {})] * 100
    with pytest.raises(InputError, match="answered 503; try again later"):
        fetch_hub(params(), raw)
    assert waits == list(transfer.WAITS_S)
    assert not any(path.suffix in (".zip", ".csv") for path in raw.rglob("*"))
    hub.failures.clear()
    fetch_hub(params(), raw)
    assert fetched(raw) == {path: source_files[path] for path in WANTED}


def test_a_file_whose_first_bytes_are_here_is_continued_by_another_process(hub, raw, fetched, source_files):
    partial = transfer.partial_of(raw, LARGE)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(source_files[LARGE][:700_000])
    fetch_hub(params(), raw)
    assert (LARGE, 700_000) in hub.ranges
    assert fetched(raw) == {path: source_files[path] for path in WANTED}


@pytest.mark.parametrize("n_bytes", [5, 1_024_000, 1_024_001])
def test_first_bytes_that_are_wrong_never_become_a_file(hub, raw, n_bytes, fetched, source_files):
    partial = transfer.partial_of(raw, LARGE)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"?" * n_bytes)
    with pytest.raises(InputError, match=r"02.zip came as 1,024,00. bytes that differ from the 1,024,000"):
        fetch_hub(params(), raw)
    assert LARGE not in fetched(raw)
    fetch_hub(params(), raw)
    assert fetched(raw)[LARGE] == source_files[LARGE]


def test_a_file_that_shrank_while_it_came_is_refused(hub, raw, fetched):
    hub.promised[LARGE], hub.cuts = hub.files[LARGE], [300_000]
    hub.files[LARGE] = hub.files[LARGE][:200_000]
    partial = transfer.partial_of(raw, LARGE)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(hub.promised[LARGE][:300_000])
    with pytest.raises(InputError, match=r"02.zip came as 300,000 bytes that differ from the 1,024,000"):
        fetch_hub(params(), raw)
    assert LARGE not in fetched(raw)


def test_a_server_without_ranges_starts_again(hub, raw, fetched, source_files):
    hub.knows_ranges, hub.cuts = False, [100_000, 200_000]
    partial = transfer.partial_of(raw, LARGE)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"other bytes")
    fetch_hub(params(), raw)
    assert fetched(raw) == {path: source_files[path] for path in WANTED}


def test_several_files_come_at_once(hub, raw):
    hub.pause_s = 0.05
    fetch_hub(params(train_archives="all"), raw)
    assert 2 <= hub.most_at_once <= transfer.FILES_AT_ONCE


def test_the_token_goes_to_the_hub_and_not_to_its_storage(hub, raw, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch_hub(params(), raw)
    assert hub.tokens == {"hub": {"Bearer hf_secret"}, "storage": {None}}


def test_an_error_in_one_file_stops_the_others_and_what_they_have_is_kept(hub, raw, monkeypatch):
    hub.promised["train.csv"] = b"id,latitude,longitudE\n1,2.0,3.0\n"
    hub.pause_s = 0.05
    with pytest.raises(InputError, match="train.csv came as"):
        fetch_hub(params(train_archives=[2]), raw)
    assert 0 < transfer.partial_of(raw, LARGE).stat().st_size < 1_024_000


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


def test_offline_mode_is_named(hub, raw, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set, so .* can't be read; unset it, or"):
        fetch_hub(params(), raw)


def test_a_disk_that_is_too_small_is_told_in_numbers_before_anything_comes(hub, raw, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**5))
    with pytest.raises(InputError, match=r"needs 0.0 GB for 5 files, its disk has 0.0 GB free; name fewer archives"):
        fetch_hub(params(), raw)
    assert hub.downloads == []
    partial = transfer.partial_of(raw, LARGE)  # what is here already takes no more room
    partial.parent.mkdir(parents=True)
    partial.write_bytes(hub.files[LARGE][:1_000_000])
    fetch_hub(params(), raw)
