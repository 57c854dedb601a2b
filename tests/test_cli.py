import csv
import re
from datetime import UTC, datetime

import pytest

from stages import cli
from stages.cli import InputError, show_table


def test_a_title_stands_on_one_line_however_narrow_its_table(capsys):
    title = "photos [1]/" + "a long name " * 20
    show_table(title, ["a", "b"], [(1, 2)])
    assert capsys.readouterr().out.splitlines()[0] == title


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A function that runs a command as the stage of a name; gives the rows of the times."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["stage"])

    def run(command, name):
        if name:
            monkeypatch.setenv("DVC_STAGE", name)
        with pytest.raises(SystemExit) as end:
            cli.run(command)
        rows = list(csv.DictReader(cli.TIMES.read_text().splitlines())) if cli.TIMES.exists() else []
        return end.value.code, {row.pop("stage"): row for row in rows}

    return run


def test_a_stage_of_the_pipeline_notes_its_time_and_memory_once(stage):
    stage(lambda: None, "shard")
    code, first = stage(lambda: None, "train@infonce")
    cli.note_time("shard", datetime(2026, 11, 5, 8, 9, 10, tzinfo=UTC), 12.345)
    code, rows = stage(lambda: None, "train@infonce")
    assert code == 0
    assert list(rows) == ["shard", "train@infonce"]
    assert rows["shard"]["seconds"] == "12.3"
    assert rows["shard"]["started_at"] == "2026-11-05T08:09:10Z"
    assert 0.01 < float(rows["shard"]["peak_memory_gb"]) < 100
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", first["train@infonce"]["started_at"])


def test_only_a_stage_that_ended_well_has_a_time(stage):
    def fail():
        raise InputError("no photo; get some")

    assert stage(lambda: None, None) == (0, {})
    assert stage(fail, "shard") == (1, {})


def test_an_error_is_one_write_so_that_those_of_two_processes_do_not_mix(stage, monkeypatch):
    def fail():
        raise InputError("no photo; get some")

    written = []
    monkeypatch.setattr("sys.stderr.write", written.append)
    stage(fail, "shard")
    assert written == ["error: no photo; get some\n"]
