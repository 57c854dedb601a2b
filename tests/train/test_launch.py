import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import stages
from stages.train.launch import launch

# Two processes that wait for each other, one of which does something else.
TOGETHER = """
import os, signal, sys
from pathlib import Path
from stages.cli import InputError, run
from stages.train import ranks as training
def main():
    with training.joined() as (ranks, _):
        ranks.agree_on(1)
        if ranks.rank == {rank}:
            {act}
        ranks.agree_on(2)
sys.argv[1:] = []
run(main)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder, in which processes find this code."""
    monkeypatch.setenv("PYTHONPATH", str(Path(stages.__file__).parent.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_error_of_one_process_alone_is_said_and_not_that_it_left_the_others(capfd):
    act = "training.OTHERS_FIRST_SECONDS = 0.5; raise InputError('a.csv cannot be read here; mend it')"
    assert launch(2, ["-c", TOGETHER.format(rank=1, act=act)]) == 1
    assert capfd.readouterr().err == "error: a.csv cannot be read here; mend it\n"


def test_a_bug_that_one_process_meets_has_its_traceback_alone(capfd):
    assert launch(2, ["-c", TOGETHER.format(rank=0, act="[][7]")]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1] == "[rank0]: IndexError: list index out of range"
    assert all(line.startswith("[rank0]") for line in lines)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_when_one_process_is_ended_by_a_signal_all_start_again(name, capfd):
    act = f"once = Path('once'); not once.exists() and (once.touch(), os.kill(os.getpid(), signal.{name}))"
    assert launch(2, ["-c", TOGETHER.format(rank=1, act=act)]) == 0
    assert capfd.readouterr().err == f"a training process was killed ({name})\n"


WAITING = """
import os, time
from pathlib import Path
Path(f"{os.getpid()}.pid").touch()
time.sleep(600)
"""
# With Python's SIGINT: a shell that starts the tests in the background has it ignored.
LAUNCHING = f"""
import signal, sys
from stages.cli import run
from stages.train.launch import launch
def main():
    sys.exit(launch(2, ["-c", {WAITING!r}]))
sys.argv[1:] = []
signal.signal(signal.SIGINT, signal.default_int_handler)
run(main)
"""


@pytest.mark.parametrize(("name", "exit_code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_ends_the_launcher_and_its_processes_without_a_word(folder, name, exit_code):
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHING], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while len(started := [path.stem for path in folder.glob("*.pid")]) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        launcher.send_signal(signal.Signals[name])
        assert launcher.communicate(timeout=60)[1] == ""
    finally:
        launcher.kill()
    assert launcher.returncode == exit_code
    assert not any(Path("/proc", pid).exists() for pid in started)


@pytest.mark.parametrize(("set_before", "expected"), [(None, "2"), ("3", "3")])
def test_the_processes_share_the_cores_unless_their_threads_are_set(folder, monkeypatch, set_before, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(5))
    if set_before is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", set_before)
    write = "import os; from pathlib import Path; Path(os.environ['RANK']).write_text(os.environ['OMP_NUM_THREADS'])"
    assert launch(2, ["-c", write]) == 0
    assert [(folder / rank).read_text() for rank in "01"] == [expected] * 2
