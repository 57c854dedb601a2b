import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from ruamel.yaml import YAML

import stages
from stages.cli import InputError
from stages.train import loop
from stages.train.__main__ import main
from stages.train.calibration import TEMPERATURES
from stages.train.launch import launch
from stages.train.model import seeded_model
from stages.train.release import load_release, write_release
from stages.variogram.models import Semivariogram, write_model

SMALL = {"epochs": 3, "batch_size": 16, "embedding_width": 8, "hidden_width": 16, "fourier_width": 4}


def photos(n, seed, width=6):
    """Latitudes, longitudes and features of n photos, ids that no other seed has."""
    rng = np.random.default_rng(seed)
    latitude, longitude = np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)
    feature = np.stack([np.sin(np.radians(latitude + k * longitude)) for k in range(width)], axis=1) + 1e-3
    return latitude, longitude, feature / np.linalg.norm(feature, axis=1, keepdims=True)


def write_semivariogram(range_km=500.0, name="exponential"):
    k = np.geomspace(0.1, 20_000, 5)
    ones = np.ones(5)
    values = {"lag_km": k, "semivariance": 0.5 * ones, "std": 0.2 * ones, "se_block": ones, "se_model": ones}
    fitted = Semivariogram(
        name, 0.1, 0.4, range_km, {}, {}, weighted_rmse=0.0, r2=1.0, n_pairs=np.full(5, 100), **values
    )
    write_model(fitted, Path("data/variogram/model.json"))


def set_params(**changes):
    yaml = YAML()
    values = yaml.load(Path("params.yaml").read_text())
    values["train"].update(changes)
    yaml.dump(values, Path("params.yaml"))


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch, write_features):
    """A folder with params, 100 training and 20 validation photos and a semivariogram."""
    shutil.copy("params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the processes that a test starts
    set_params(**SMALL)
    for split, n, seed in (("train", 100, 1), ("val", 20, 2)):
        write_features(Path(f"data/world/features/{split}/00000.arrow"), *photos(n, seed))
    encoder = {"model": "varioclip-tiny", "pretrained": "untrained"}
    Path("data/world/features/encoder.json").write_text(json.dumps(encoder))
    write_semivariogram()
    return tmp_path


def outputs(name="semivariogram"):
    return {
        path: path.read_bytes()
        for path in [*Path("data/models", name).rglob("*.*"), Path("reports/training", f"{name}.csv")]
        if path.is_file()
    }


def test_it_writes_a_release_and_a_learning_curve_and_says_how_it_ended(capsys):
    main("semivariogram")
    model = load_release(Path("data/models/semivariogram"))
    assert model.place_embedding(torch.zeros(2), torch.zeros(2)).shape == (2, 8)
    config = json.loads(Path("data/models/semivariogram/config.json").read_text())
    assert config["training"]["loss"] == "semivariogram"
    assert config["training"]["semivariogram"].keys() == {"beta_hard", "beta_false", "soft_share", "soft_length_km"}
    assert "distance_soft" not in config["training"]
    assert config["encoder"] == json.loads(Path("data/world/features/encoder.json").read_text())
    assert config["source"] == "world"
    assert config["temperature"] in TEMPERATURES
    assert len(pl.read_csv("data/models/semivariogram/gallery.csv")) == 100
    curve = pl.read_csv("reports/training/semivariogram.csv")
    assert curve.columns[:4] == ["step", "epoch", "training_loss", "validation_loss"]
    assert curve["step"][-1] == 3 * (100 // 16)
    assert "validation median error" in capsys.readouterr().out
    assert not list(Path("data/checkpoints").glob("*"))


def test_the_same_inputs_give_the_same_bytes():
    main("semivariogram")
    first = outputs()
    main("semivariogram")
    assert outputs() == first


class Killed(BaseException):
    pass


def test_killed_and_run_again_it_writes_the_same_bytes(monkeypatch):
    main("semivariogram")
    expected = outputs()
    shutil.rmtree("data/models")
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    advance = loop.Run.advance

    def advance_or_die(run):
        if run.step == 8:
            raise Killed
        advance(run)

    monkeypatch.setattr(loop.Run, "advance", advance_or_die)
    with pytest.raises(Killed):
        main("semivariogram")
    assert Path("data/checkpoints/semivariogram.pt").is_file()
    monkeypatch.setattr(loop.Run, "advance", advance)
    main("semivariogram")
    assert outputs() == expected


def test_infonce_needs_no_semivariogram():
    shutil.rmtree("data/variogram")
    main("infonce")
    assert outputs("infonce")
    with pytest.raises(InputError, match="run the variogram stage first"):
        main("semivariogram")


def test_it_starts_from_a_release():
    widths = {"embedding_width": 8, "hidden_width": 16, "fourier_width": 4, "sigmas": [1, 16, 256]}
    start = seeded_model(11, feature_width=6, **widths)
    encoder = {"center": [0.1, 0.2, 0.3, 0.0, 0.0, 0.0]}  # as here, so that its image head fits as it is
    facts = {"sigma": [1.0, 16.0, 256.0], "backbone": {"repo_id": "a", "revision": "main"}, "encoder": encoder}
    here = Path("data/world/features/encoder.json")
    here.write_text(json.dumps(json.loads(here.read_text()) | encoder))
    write_release(Path("published"), start, pl.DataFrame({"latitude": [0.0], "longitude": [0.0]}), facts)
    set_params(init="published", learning_rate=1e-12, sigmas=[1.0, 16.0, 256.0])
    main("infonce")
    trained = load_release(Path("data/models/infonce")).state_dict()
    for key, value in start.state_dict().items():
        torch.testing.assert_close(trained[key], value, rtol=0, atol=1e-6)


def test_an_unknown_loss_names_those_there_are():
    with pytest.raises(InputError, match="loss 'triplet' is not known; choose one of: infonce, semivariogram"):
        main("triplet")


def test_a_batch_larger_than_the_data_is_refused():
    set_params(batch_size=512)
    with pytest.raises(InputError, match="a batch of 512 is more than the 100 training photos"):
        main("infonce")


def test_a_feature_that_is_no_number_names_its_photo(write_features):
    latitude, longitude, feature = photos(60, 9)
    feature[2, 3] = np.nan
    write_features(Path("data/world/features/train/00001.arrow"), latitude, longitude, feature)
    with pytest.raises(InputError, match="the feature of photo 2 in data/world/features/train is NaN"):
        main("infonce")


def test_a_semivariogram_without_a_range_is_refused():
    write_semivariogram(range_km=None, name="nugget")
    with pytest.raises(InputError, match="semivariogram 'nugget' has no range"):
        main("semivariogram")
    main("distance_soft")


def test_a_gpu_that_is_too_small_says_what_to_lower(monkeypatch):
    def train(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("stages.train.__main__.train", train)
    with pytest.raises(InputError, match="batch of 16 with a queue of 0 does not fit .*; lower train.batch_size or"):
        main("infonce")


@pytest.mark.parametrize(("name", "queue_size"), [("infonce", 0), ("semivariogram", 24)])
def test_two_processes_train_to_the_weights_of_one(name, queue_size, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(stages.__file__).parent.parent))
    set_params(queue_size=queue_size, batch_size=16, epochs=2)
    main(name)
    alone, curve = load_release(Path("data/models", name)), Path("reports/training", f"{name}.csv").read_text()
    Path("data/models", name, "model.safetensors").unlink()
    set_params(n_processes=2)
    with pytest.raises(SystemExit) as done:
        main(name)
    assert done.value.code == 0
    together = load_release(Path("data/models", name))
    start = seeded_model(1, feature_width=6, embedding_width=8, hidden_width=16, fourier_width=4, sigmas=[1, 16, 256])
    for key, weight in alone.state_dict().items():
        moved = (weight - start.state_dict()[key]).abs().max()
        # Adam turns the rounding of a gradient near zero into a part of a step: compare with how far all steps went.
        torch.testing.assert_close(together.state_dict()[key], weight, rtol=0, atol=float(1e-3 * moved + 1e-7))
    assert len(Path("reports/training", f"{name}.csv").read_text().splitlines()) == len(curve.splitlines())


def test_what_processes_cannot_do_is_said_before_they_are_started(monkeypatch):
    monkeypatch.setattr("stages.train.__main__.launch", None)
    set_params(n_processes=3)
    with pytest.raises(InputError, match="train.batch_size 16 is not a multiple of the 3 processes; make it one"):
        main("infonce")


# As the stage does, but with checkpoints that are soon there.
TRAIN = (
    "import sys; from stages.cli import run; from stages.train import __main__ as command, loop;"
    "loop.CHECKPOINT_SECONDS = 0; sys.argv[1:] = ['infonce']; run(command.main)"
)


def kill_one_process(when):
    """Kill one of this process's children with the last number when the condition is met."""
    deadline = time.monotonic() + 60
    while not when():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    commands = {int(pid): Path("/proc", pid, "cmdline").read_bytes() for pid in children}
    os.kill(max(pid for pid, command in commands.items() if b"CHECKPOINT_SECONDS" in command), signal.SIGKILL)


@pytest.mark.parametrize("n_processes", [2, 4])
def test_when_one_process_is_killed_all_go_on_from_the_checkpoint_to_the_same_bytes(n_processes, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(Path(stages.__file__).parent.parent))
    set_params(epochs=10, batch_size=16)
    assert launch(n_processes, ["-c", TRAIN]) == 0
    whole = outputs("infonce")
    capfd.readouterr()
    shutil.rmtree("data/models")
    with ThreadPoolExecutor(1) as beside:
        killing = beside.submit(kill_one_process, Path("data/checkpoints/infonce.pt").exists)
        assert launch(n_processes, ["-c", TRAIN]) == 0
    killing.result()
    assert outputs("infonce") == whole
    assert "a training process was killed (SIGKILL)" in capfd.readouterr().err


def test_torchrun_itself_begins_again_at_the_checkpoint_when_one_process_is_killed(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(stages.__file__).parent.parent))
    set_params(epochs=10, batch_size=16)
    assert launch(2, ["-c", TRAIN]) == 0
    whole = outputs("infonce")
    shutil.rmtree("data/models")
    Path("train.py").write_text(TRAIN)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=3", "train.py"]
    process = subprocess.Popen(torchrun, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not Path("data/checkpoints/infonce.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    children = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    os.kill(max(pid for pid in children if b"train.py" in Path(f"/proc/{pid}/cmdline").read_bytes()), signal.SIGKILL)
    try:
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
    assert outputs("infonce") == whole


def test_processes_with_other_checkpoints_are_refused(monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(Path(stages.__file__).parent.parent))
    set_params(epochs=2, batch_size=16)
    resume = "import os; loop.Run.go_on_from = lambda run, *_: setattr(run, 'step', int(os.environ['RANK']))"
    code = TRAIN.replace("loop.CHECKPOINT_SECONDS = 0", resume)
    assert launch(2, ["-c", code]) == 1
    assert "the training processes see other data, params or checkpoints" in capfd.readouterr().err
    assert not Path("data/models/infonce").exists()


def test_an_error_of_all_processes_is_said_once_and_not_tried_again(monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(Path(stages.__file__).parent.parent))
    shutil.rmtree("data/world/features/train")
    assert launch(2, ["-m", "stages.train", "infonce"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: data/world/features/train holds no feature shards")


def test_a_training_that_is_killed_again_and_again_ends(monkeypatch, capfd):
    monkeypatch.setattr("stages.train.launch.MAX_RESTARTS", 1)
    assert launch(2, ["-c", "import os; os.kill(os.getpid(), 9)"]) == 1
    assert capfd.readouterr().err.splitlines() == [
        *["a training process was killed (SIGKILL)"] * 2,
        "error: training was killed 2 times; is there memory enough?",
    ]
