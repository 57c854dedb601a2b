import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from stages.cli import InputError
from stages.features import __main__ as command
from stages.features.encoder import center, loaded_encoder, open_clip, read_encoder
from stages.shards import SPLITS, read_features

REPOSITORY = Path("params.yaml").resolve().parent
SHARDS, FEATURES = Path("data/world/shards"), Path("data/world/features")
N = {"train/00000": 5, "train/00001": 4, "val/00000": 3, "test/00000": 2}


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch, write_shard, jpeg):
    """A folder with params and the shards of fourteen photos."""
    shutil.copy("params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for number, (name, n) in enumerate(N.items()):
        write_shard(SHARDS / f"{name}.parquet", {f"{number}{i}": jpeg(10 * number + i) for i in range(n)})


@pytest.fixture
def embed(monkeypatch):
    """A function that runs the stage with other params; gives the names of the shards that it embedded."""

    def run(**changes):
        yaml = YAML()
        params = yaml.load(Path("params.yaml"))
        params["features"].update({"batch_size": 4, **changes})
        yaml.dump(params, Path("params.yaml"))
        embedded = []

        def encode_shard(images, *args, **options):
            command_encode_shard(images, *args, **options)
            embedded.append(images.relative_to(SHARDS).with_suffix("").as_posix())

        with monkeypatch.context() as patch:
            command_encode_shard = command.encode_shard
            patch.setattr(command, "encode_shard", encode_shard)
            loaded_encoder.cache_clear()  # a weights file may be another by now
            command.main()
        return embedded

    return run


def files():
    return {str(path.relative_to(FEATURES)): path.read_bytes() for path in FEATURES.rglob("*") if path.is_file()}


def features(split, folder=FEATURES):
    rows = read_features(folder / split)[1]
    return rows[np.arange(len(rows))].astype(np.float64)


def facts():
    return json.loads((FEATURES / "encoder.json").read_text())


def test_features_lack_the_training_mean_and_say_what_made_them(embed, capsys):
    assert embed() == list(N)
    unit = np.concatenate([features(split, FEATURES / "uncentered") for split in SPLITS])
    expected = unit - unit[:9].mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.concatenate([features(split) for split in SPLITS]), expected, atol=3e-4)
    about = facts()
    np.testing.assert_allclose(about.pop("center"), unit[:9].mean(axis=0), rtol=1e-6)
    preprocessing = about.pop("preprocessing")
    assert (preprocessing["size"], preprocessing["interpolation"]) == ([64, 64], "bicubic")
    assert about == {
        "model": "varioclip-tiny",
        "pretrained": "untrained",
        "seed": 1,
        "width": 256,
        "short_side_px": 256,
        "photos": {"train": 9, "val": 3, "test": 2},
    }
    title, *table = capsys.readouterr().out.splitlines()
    assert title.startswith("Features of varioclip-tiny (untrained): ")
    assert title.endswith(" photos/s on cpu")
    assert [line.strip("│ ").split() for line in table if "256" in line] == [
        ["train", "│", "9", "│", "256"],
        ["val", "│", "3", "│", "256"],
        ["test", "│", "2", "│", "256"],
    ]


def test_without_centering_features_are_kept_once(embed):
    embed(center=False)
    assert not (FEATURES / "uncentered").exists()
    assert facts()["center"] is None
    np.testing.assert_allclose(np.linalg.norm(features("train"), axis=1), 1, atol=1e-3)


@pytest.mark.parametrize("is_centered", [True, False])
def test_a_new_photo_is_embedded_as_the_shards_photos_were(embed, jpeg, is_centered):
    embed(center=is_centered)
    encoder, mean = read_encoder(facts())
    pictures = [encoder.preprocess(Image.open(io.BytesIO(jpeg(i)))) for i in (20, 21, 22)]
    feature = center(encoder.encode(torch.stack(pictures)), mean)
    # Centering divides float16's rounding by what is left of the length, here about a third.
    np.testing.assert_allclose(features("val"), feature, atol=1e-3)


def test_a_photo_is_prepared_as_its_encoder_json_says(embed):
    embed()
    about = facts()
    about["preprocessing"] |= {"size": [32, 32], "mean": [0, 0, 0], "std": [0.5, 0.5, 0.5]}
    pixels = read_encoder(about)[0].preprocess(Image.new("RGB", (90, 40), "white"))
    assert pixels.shape == (3, 32, 32)
    assert pixels.max() == 2


def test_a_second_run_does_nothing(embed, capsys):
    embed()
    before = files()
    stamps = {path: path.stat().st_mtime_ns for path in FEATURES.rglob("*.arrow")}
    assert embed() == []
    assert embed(batch_size=2) == []
    assert files() == before
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert "nothing new" in capsys.readouterr().out


@pytest.mark.parametrize("n_photos", [0, 4, 5, 8])
def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(embed, monkeypatch, n_photos):
    embed()
    expected = files()
    shutil.rmtree(FEATURES)

    class Dies(command.tqdm):
        def update(self, n=1):
            if self.n + n > n_photos:
                raise KeyboardInterrupt
            return super().update(n)

    with monkeypatch.context() as patch:
        patch.setattr(command, "tqdm", Dies)
        with pytest.raises(KeyboardInterrupt):
            embed()
    assert not (FEATURES / "encoder.json").exists()
    (FEATURES / "train").mkdir(exist_ok=True)
    for name in ("00001", "00009"):  # a process that is killed cannot tidy up
        (FEATURES / "train" / f".{name}.arrow.partial").write_text("half")
    assert embed() == list(N)[{0: 0, 4: 0, 5: 1, 8: 1}[n_photos] :]
    assert files() == expected


def test_a_run_that_was_killed_while_centering_goes_on(embed, monkeypatch):
    embed()
    expected = files()
    shutil.rmtree(FEATURES)
    left = iter([1, 2])

    def dies(*args):
        next(left)
        return whole(*args)

    with monkeypatch.context() as patch:
        whole = command.center_shard
        patch.setattr(command, "center_shard", dies)
        with pytest.raises(StopIteration):
            embed()
    assert embed() == []
    assert files() == expected


def test_a_process_that_was_killed_goes_on_and_ends_with_the_same_bytes(embed, write_shard, jpeg):
    for number in range(3):
        write_shard(SHARDS / f"train/{number:05}.parquet", {f"{number}x{i}": jpeg(i) for i in range(40)})
    embed()
    expected = files()
    shutil.rmtree(FEATURES)
    options = {"env": os.environ | {"PYTHONPATH": str(REPOSITORY)}, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-m", "stages.features"], **options) as killed:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (FEATURES / "uncentered/train/00000.arrow").exists():
            time.sleep(0.005)
        killed.send_signal(signal.SIGKILL)
    embedded = embed()
    assert ("train/00000" in embedded, "train/00002" in embedded) == (False, True)
    assert files() == expected


def test_a_new_shard_is_embedded_alone_and_moves_the_mean_of_all(embed, write_shard, jpeg):
    embed()
    before, unit = files(), features("train", FEATURES / "uncentered")
    write_shard(SHARDS / "train/00002.parquet", {f"new{i}": jpeg(90 + i) for i in range(3)})
    assert embed() == ["train/00002"]
    after = files()
    assert {name for name in before if after[name] == before[name]} == {
        "fingerprint.json",
        *(f"uncentered/{name}.arrow" for name in N),
    }
    np.testing.assert_array_equal(features("train", FEATURES / "uncentered")[:9], unit)
    shutil.rmtree(FEATURES)
    embed()
    assert files() == after


def test_a_shard_with_other_photos_is_embedded_again(embed, write_shard, jpeg):
    embed()
    write_shard(SHARDS / "test/00000.parquet", {"30": jpeg(30), "32": jpeg(32)})
    before = files()
    assert embed() == ["test/00000"]
    assert files()["train/00000.arrow"] == before["train/00000.arrow"]  # the mean is the training photos'


def test_features_of_shards_that_are_gone_vanish(embed):
    embed()
    (SHARDS / "train/00001.parquet").unlink()
    shutil.rmtree(SHARDS / "test")
    assert embed() == []
    assert {name for name in files() if name.endswith(".arrow")} == {
        f"{folder}{name}.arrow" for folder in ("", "uncentered/") for name in ("train/00000", "val/00000")
    }
    assert facts()["photos"] == {"train": 5, "val": 3, "test": 0}


@pytest.mark.parametrize("change", [{"seed": 2}, {"center": False}, {"model": "tests-other"}])
def test_another_encoder_starts_anew(embed, change, tmp_path):
    config = open_clip.get_model_config("varioclip-tiny") | {"embed_dim": 8}
    (tmp_path / "tests-other.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tests-other.json")
    embed()
    before = files()
    (FEATURES / "stray").touch()
    assert embed(**change) == list(N)
    assert not (FEATURES / "stray").exists()
    assert files()["train/00000.arrow"] != before["train/00000.arrow"]
    assert facts()["width"] == (8 if "model" in change else 256)


def test_other_weights_under_the_same_file_name_start_anew(embed):
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.save(open_clip.create_model("varioclip-tiny").state_dict(), "weights.pt")
        assert embed(pretrained="weights.pt") == list(N)
    assert embed(pretrained="weights.pt") == []


def test_broken_weights_name_a_photo(embed):
    state = open_clip.create_model("varioclip-tiny").state_dict()
    state["visual.proj"][0, 0] = torch.nan
    torch.save(state, "weights.pt")
    with pytest.raises(InputError, match="photo 00: its feature has length nan, not 1; check the weights"):
        embed(pretrained="weights.pt")


def test_empty_validation_and_test_splits_have_no_features(embed, write_shard):
    write_shard(SHARDS / "val/00000.parquet", {})
    shutil.rmtree(SHARDS / "test")
    embed()
    assert facts()["photos"] == {"train": 9, "val": 0, "test": 0}
    with pa.memory_map(str(FEATURES / "val/00000.arrow")) as source:
        assert pa.ipc.open_file(source).read_all().num_rows == 0


def test_without_training_photos_the_way_out_is_the_shard_stage(embed, write_shard):
    for name in ("train/00000", "train/00001"):
        write_shard(SHARDS / f"{name}.parquet", {})
    with pytest.raises(InputError, match=r"data/world/shards holds no training photos; .*: dvc repro shard"):
        embed()
    shutil.rmtree(SHARDS)
    with pytest.raises(InputError, match="holds no training photos"):
        embed()


def test_a_damaged_photo_is_named_with_its_shard(embed, write_shard, jpeg):
    write_shard(SHARDS / "train/00001.parquet", {"5": jpeg(0), "6": jpeg(1)[:300]})
    with pytest.raises(InputError, match=r"shards/train/00001.parquet: photo 6 cannot be decoded"):
        embed()


def test_a_shard_that_is_cut_off_is_named(embed):
    path = SHARDS / "train/00001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"train/00001.parquet is not a whole Parquet file .*: dvc repro shard"):
        embed()
