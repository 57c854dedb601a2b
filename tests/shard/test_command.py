import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from stages.cli import InputError
from stages.params import load_params
from stages.shard import __main__ as command
from stages.shard import archive, write
from stages.shards import REJECTED_SCHEMA, SHARD_SCHEMA

PARAMS_FILE = Path("params.yaml").resolve()
PARAMS = load_params()
SHARDS = Path("data/world/shards")


def place(number, sequence=None):
    """A place in a cell of its own; frames of a drive are a few metres apart."""
    drive = number if sequence is None else sequence
    return (f"{number}", -45 + 0.1 * drive + 0.0001 * number, 20, f"s{drive}")


@pytest.fixture
def shard(tmp_path, monkeypatch, zipped, csv_of, photo):
    """A function that writes raw data, runs the stage in this process and reads its shards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(write, "process_pool", lambda n_cores: ThreadPoolExecutor(1))

    def run(
        train_rows,
        train,
        test_rows=None,
        test=None,
        *,
        limit=1.0,
        fraction=0.25,
        archives="all",
        source="world",
        validation="places",
        **filters,
    ):
        changes = {"max_rejected_fraction": limit, "validation_fraction": fraction, "validation": validation}
        values = PARAMS.shard.model_copy(update=changes | {"filter": PARAMS.shard.filter.model_copy(update=filters)})
        mirror = PARAMS.data.mirror.model_copy(update={"train_archives": archives})
        data = PARAMS.data.model_copy(update={"source": source, "mirror": mirror})
        monkeypatch.setattr(command, "load_params", lambda: PARAMS.model_copy(update={"shard": values, "data": data}))
        raw = Path("data", source, "raw")
        for split, its_rows, its_archives in (
            ("train", train_rows, train),
            ("test", test_rows or [place(900)], test or {"00": {"00/900.jpg": photo(900)}}),
        ):
            shutil.rmtree(raw / "images" / split, ignore_errors=True)
            raw.mkdir(parents=True, exist_ok=True)
            for name, members in its_archives.items():
                zipped(raw / "images" / split / f"{name}.zip", members)
            (raw / f"{split}.csv").write_text(csv_of(its_rows))
        archive._opened.cache_clear()
        command.main()
        return read_shards(Path("data", source, "shards"))

    return run


def read_shards(folder):
    return {str(p.relative_to(folder)): pq.read_table(p) for p in sorted(folder.rglob("*.parquet"))}


def rejected(tables):
    return sorted(tuple(row.values()) for row in tables["rejected.parquet"].to_pylist())


def jpegs(photo, numbers, folder="00"):
    return {f"{folder}/{i}.jpg": photo(i) for i in numbers}


def test_every_photo_with_a_row_is_in_one_shard_with_its_place(shard, photo):
    rows = [place(i) for i in range(40)]
    tables = shard(rows, {"00": jpegs(photo, range(25)), "07": jpegs(photo, range(39, 24, -1))})
    assert tables["train/00000.parquet"].schema.equals(SHARD_SCHEMA)
    seen = {}
    for name in ("train/00000", "val/00000", "train/00007", "val/00007"):
        ids = tables[f"{name}.parquet"]["id"].to_pylist()
        numbers = [int(i) for i in ids]
        assert numbers == sorted(numbers, reverse=name.endswith("7"))  # in the archive's order
        seen |= {row["id"]: row for row in tables[f"{name}.parquet"].to_pylist()}
    assert sorted(seen, key=int) == [str(i) for i in range(40)]
    for i in range(40):
        row = seen[str(i)]
        assert (row["latitude"], row["longitude"], row["sequence"]) == place(i)[1:]
        assert (row["image"], row["country"], row["sub_region"]) == (photo(i), None, None)
    n_validation = sum(len(tables[f"val/{number}.parquet"]) for number in ("00000", "00007"))
    assert n_validation == 10
    assert rejected(tables) == []


def test_frames_of_a_drive_stay_on_one_side_over_archives(shard, photo):
    rows = [place(i, sequence=i // 8) for i in range(80)]
    even, odd = range(0, 80, 2), range(1, 80, 2)
    tables = shard(rows, {"00": jpegs(photo, even), "01": jpegs(photo, odd)}, fraction=0.2)
    sides = {side: set() for side in ("train", "val")}
    for side, drives in sides.items():
        for number in ("00000", "00001"):
            drives.update(tables[f"{side}/{number}.parquet"]["sequence"].to_pylist())
    assert len(sides["val"]) == 2
    assert not sides["train"] & sides["val"]


def test_everything_left_out_has_its_reason(shard, photo, capsys):
    rows = [place(1), place(1), ("2", "", 3, "s"), ("3", 91, 3, "s"), ("4", 0, 0, "s"), place(5), place(6), place(7)]
    members = {f"00/{i}.jpg": photo(i) for i in (1, 2, 3, 4, 8)}
    members |= {"00/6.jpg": photo(6)[:300], "00/7.jpg": photo(7)}
    again = {"01/7.jpg": photo(70), "x/9.jpg": photo(9), "y/9.jpg": photo(9)}
    tables = shard([*rows, place(9)], {"00": members, "01": again}, fraction=0)
    train = "images/train/00.zip"
    assert rejected(tables) == [
        ("train", "1", train, "duplicate id"),
        ("train", "2", train, "coordinates missing"),
        ("train", "3", train, "coordinates out of range"),
        ("train", "4", train, "coordinates 0,0"),
        ("train", "5", None, "no image"),
        ("train", "6", train, "unreadable image"),
        ("train", "7", "images/train/01.zip", "duplicate image"),
        ("train", "8", train, "no row"),
        ("train", "9", "images/train/01.zip", "duplicate image"),
    ]
    assert tables["rejected.parquet"].schema.equals(REJECTED_SCHEMA)
    assert tables["train/00000.parquet"]["id"].to_pylist() == ["1", "7"]
    assert tables["train/00000.parquet"]["image"].to_pylist()[1] == photo(7)
    out = capsys.readouterr().out
    assert re.search(r"coordinates out of range\W+train\W+1\b", out)
    assert re.search(r"duplicate image\W+train\W+2\b", out)


def test_above_the_limit_the_stage_fails_and_says_so(shard, photo):
    rows = [place(i) for i in range(10)]
    members = {"00": jpegs(photo, range(8))}
    with pytest.raises(
        InputError, match=r"18\.2% .*max_rejected_fraction \(5\.0%\); the table above and .*rejected.parquet"
    ):
        shard(rows, members, limit=0.05)
    assert len(pq.read_table(SHARDS / "rejected.parquet")) == 2  # there to be looked at
    assert shard(rows, members, limit=0.2)


def test_rows_of_archives_that_were_not_asked_for_are_no_loss(shard, photo, capsys):
    rows = [place(i) for i in range(100)]
    tables = shard(rows, {"03": jpegs(photo, range(10))}, limit=0, archives=[3], source="mirror")
    assert rejected(tables) == []
    assert re.search(r"not asked for\)\W+train\W+90\b", capsys.readouterr().out)


def test_what_the_filter_leaves_out_is_counted_and_is_no_loss(shard, photo, capsys, monkeypatch):
    rows = [place(i) for i in range(20)]
    archives = {"00": jpegs(photo, range(10)), "01": jpegs(photo, range(10, 20))}
    test = [place(8), place(900)], {"00": jpegs(photo, (8, 900))}
    shard(rows, archives, *test)
    before = file_bytes(SHARDS)
    tables = shard(rows, archives, *test, limit=0, bounding_box=[-44.4, 0, 60, 30])
    ids = [tables[f"{split}/{n}.parquet"]["id"].to_pylist() for n in ("00000", "00001") for split in ("train", "val")]
    assert sorted(sum(ids, []), key=int) == [str(i) for i in range(6, 20)]
    assert tables["test/00000.parquet"]["id"].to_pylist() == ["8", "900"]
    assert rejected(tables) == []
    assert re.search(r"left out by shard.filter\)\W+train\W+6\b", capsys.readouterr().out)
    assert len(sum(ids[1::2], [])) == round(0.25 * 14)  # the validation share is one of what is kept
    limited = shard(rows, archives, *test, max_photos=3, fraction=0)
    assert [len(limited[f"{name}.parquet"]) for name in ("train/00000", "train/00001", "test/00000")] == [3, 0, 2]
    shard(rows, archives, *test)
    assert file_bytes(SHARDS) == before


def test_a_filter_that_leaves_nothing_says_so(shard, photo):
    with pytest.raises(InputError, match=r"no photo is left for train; the table above"):
        shard([place(1)], {"00": jpegs(photo, [1])}, countries=["KE"])


def test_osv5ms_protocol_draws_single_photos(shard, photo):
    rows = [place(i, sequence=i // 8) for i in range(40)]
    tables = shard(rows, {"00": jpegs(photo, range(40))}, fraction=0.2, validation="osv5m")
    assert len(tables["val/00000.parquet"]) == 8
    assert set(tables["val/00000.parquet"]["sequence"].to_pylist()) & set(
        tables["train/00000.parquet"]["sequence"].to_pylist()
    )


def test_a_split_without_photos_is_refused(shard, photo):
    with pytest.raises(InputError, match=r"no photo is left for test; .*rejected\.parquet"):
        shard([place(1)], {"00": jpegs(photo, [1])}, [place(2)], {"00": {"00/2.jpg": b"broken"}})


def test_exchanged_columns_are_refused_before_any_photo_is_read(shard, photo):
    rows = [(str(i), 120 + i / 100, 30 + i / 50, "s") for i in range(30)]
    message = r"latitude 120\.0 in row 2 of .*train\.csv is outside \[-90, 90\].*30 of 30 rows; .*exchanged\?"
    with pytest.raises(InputError, match=message):
        shard(rows, {"00": {"00/1.jpg": b"not read"}})


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({}, r"images/train holds no archive NN\.zip; .*dvc repro download"),
        ({"00": {"readme.txt": b""}}, r"images/train hold no <id>\.jpg"),
    ],
)
def test_archives_that_are_not_there_are_named(shard, train, message):
    with pytest.raises(InputError, match=message):
        shard([place(1)], train)


def test_an_archive_added_later_is_the_only_one_that_is_read(shard, photo, monkeypatch):
    rows = [place(i) for i in range(30)]
    first = {"00": jpegs(photo, range(10)), "02": jpegs(photo, range(10, 20))}
    before = shard(rows, first)
    read = []
    plain = command.write.read_photos
    monkeypatch.setattr(command.write, "read_photos", lambda path, *rest: read.append(path.name) or plain(path, *rest))
    after = shard(rows, first | {"01": jpegs(photo, range(20, 30))})
    assert set(read) == {"01.zip"}
    assert {name: table for name, table in after.items() if name in before and name[:8] != "rejected"} == {
        name: table for name, table in before.items() if name[:8] != "rejected"
    }
    read.clear()
    assert sorted(shard(rows, first)) == sorted(before)  # and one taken away takes its shards with it
    assert read == []


def test_only_what_concerns_a_change_is_made_again(shard, photo, monkeypatch):
    rows = [place(i) for i in range(20)]
    archives = {"00": jpegs(photo, range(10)), "01": jpegs(photo, range(10, 20))}
    shard(rows, archives, fraction=0)
    read = []
    plain = command.write.read_photos
    monkeypatch.setattr(command.write, "read_photos", lambda path, *rest: read.append(path.name) or plain(path, *rest))
    moved = [*rows[:15], ("15", -45.5, 170.5, "s"), *rows[16:]]
    tables = shard(moved, archives, fraction=0)
    assert set(read) == {"01.zip"}
    assert tables["train/00001.parquet"]["latitude"].to_pylist()[5] == -45.5
    read.clear()
    shard(moved, archives | {"00": archives["00"] | {"00/3.jpg": photo(33)}}, fraction=0)
    assert set(read) == {"00.zip"}
    (SHARDS / "val/00001.parquet").unlink()
    read.clear()
    shard(moved, archives | {"00": archives["00"] | {"00/3.jpg": photo(33)}}, fraction=0)
    assert set(read) == {"01.zip"}


def stage(folder, **options):
    """The stage as a person runs it, in a process group of its own."""
    environment = os.environ | {"PYTHONPATH": str(PARAMS_FILE.parent)}
    command_line = [sys.executable, "-m", "stages.shard"]
    return subprocess.Popen(command_line, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, **options)


def file_bytes(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_killed_run_leaves_no_process_and_its_rerun_ends_with_the_same_bytes(shard, photo, tmp_path):
    rows = [place(i) for i in range(200)]
    archives = {f"{k:02}": jpegs(lambda i: photo(i, size=(400, 300)), range(50 * k, 50 * k + 50)) for k in range(4)}
    shard(rows, archives)
    expected = file_bytes(SHARDS)
    shutil.rmtree(SHARDS)
    shutil.copy(PARAMS_FILE, tmp_path)
    text = (tmp_path / "params.yaml").read_text()
    text = re.sub(r"validation_fraction: \S+", "validation_fraction: 0.25", text)
    (tmp_path / "params.yaml").write_text(re.sub(r"max_rejected_fraction: \S+", "max_rejected_fraction: 1.0", text))

    killed = stage(tmp_path, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 30
    while not (SHARDS / "train/00000.parquet").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    kept = {path.name: path.stat().st_mtime_ns for path in (SHARDS / "train").glob("0*.parquet")}
    assert "00000.parquet" in kept
    while time.monotonic() < deadline:
        try:
            os.killpg(killed.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("worker processes live on")
    rerun = stage(tmp_path, stdout=subprocess.PIPE)
    out, error = rerun.communicate(timeout=60)
    assert rerun.returncode == 0, error
    assert "150" in out
    assert file_bytes(SHARDS) == expected
    assert pl.read_parquet(SHARDS / "rejected.parquet").is_empty()
