import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML

import stages.world
from stages.download import geography
from stages.download.__main__ import main
from stages.download.sources import SOURCES
from stages.download.transfer import partial_of
from stages.params import World

PARAMS_FILE = Path("params.yaml").resolve()
PARAMS = YAML(typ="safe", pure=True).load(PARAMS_FILE.read_text())


@pytest.fixture
def download(tmp_path, monkeypatch):
    """Runs the stage in an empty folder, with params.yaml changed; gives back data/<source>/raw."""
    monkeypatch.chdir(tmp_path)

    def run(source, **changes):
        values = json.loads(json.dumps(PARAMS))
        values["data"]["source"] = source
        values["data"][source].update(changes)
        YAML(typ="safe", pure=True).dump(values, Path("params.yaml"))
        main()
        return Path("data", source, "raw")

    return run


def test_a_mirror_ends_with_a_manifest_and_earths_geography(download, mirror, contents):
    raw = download("mirror", url=str(mirror), train_archives=[0, 1])
    first = contents(raw)
    assert set(first) == {
        "fingerprint.json",
        "manifest.json",
        "geography/places.csv",
        "geography/coastlines.csv",
        "train.csv",
        "test.csv",
        "images/train/00.zip",
        "images/train/01.zip",
        "images/test/00.zip",
    }
    download("mirror", url=str(mirror), train_archives=[0, 1])
    assert contents(raw) == first


def test_archives_come_and_go_with_params_and_the_others_stay(download, mirror, contents):
    raw = download("mirror", url=str(mirror), train_archives=[0, 1])
    before = (raw / "images/train/01.zip").stat().st_ctime_ns
    download("mirror", url=str(mirror), train_archives=[1, 2])
    assert sorted(path.name for path in (raw / "images/train").iterdir()) == ["01.zip", "02.zip"]
    assert (raw / "images/train/01.zip").stat().st_ctime_ns == before
    named = [entry["path"] for entry in json.loads((raw / "manifest.json").read_text())["files"]]
    assert named == sorted(path for path in contents(raw) if path not in ("manifest.json", "fingerprint.json"))


def test_a_damaged_file_is_fetched_again(download, mirror, source_files):
    raw = download("mirror", url=str(mirror))
    (raw / "images/train/02.zip").unlink()
    (raw / "images/train/02.zip").write_bytes(b"\0" * len(source_files["images/train/02.zip"]))
    download("mirror", url=str(mirror))
    assert (raw / "images/train/02.zip").read_bytes() == source_files["images/train/02.zip"]


def test_another_mirror_starts_anew(download, mirror, source_files):
    raw = download("mirror", url=str(mirror))
    (mirror / "train.csv").rename(mirror / "train.csv.bak")
    (mirror / "train.csv").write_bytes(source_files["train.csv"].replace(b"1", b"7"))  # as long as the other one
    download("mirror", url=f"{mirror}/.")
    assert b"7,2.0" in (raw / "train.csv").read_bytes()


def test_the_hub_ends_with_its_commit_in_the_manifest(download, hub):
    raw = download("hub", repository="some/photos", train_archives=[1])
    manifest = json.loads((raw / "manifest.json").read_text())
    assert (manifest["source"], manifest["revision"]) == ("hub", hub.head)
    hub.downloads.clear()
    download("hub", repository="some/photos", train_archives=[0, 1])
    assert hub.downloads == ["images/train/00.zip"]
    (raw / "images/test/00.zip").write_bytes(b"damaged file")
    hub.downloads.clear()
    download("hub", repository="some/photos", train_archives=[0, 1])
    assert hub.downloads == ["images/test/00.zip"]


@pytest.mark.parametrize("n_bytes", [100_000, 900_000])
def test_a_download_that_was_killed_ends_with_the_same_bytes(download, hub, contents, n_bytes):
    large = "images/train/02.zip"
    raw = download("hub", repository="some/photos", train_archives="all")
    expected = contents(raw)
    shutil.rmtree(raw)
    hub.ranges.clear()
    hub.pause_s = 0.02
    environment = os.environ | {"PYTHONPATH": str(PARAMS_FILE.parent), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    options = {"env": environment, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-m", "stages.download"], **options) as killed:
        deadline = time.monotonic() + 30
        partial = partial_of(raw, large)
        while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size > n_bytes):
            time.sleep(0.005)
        killed.send_signal(signal.SIGKILL)
    n_kept = partial.stat().st_size
    assert n_bytes < n_kept < len(hub.files[large])
    download("hub", repository="some/photos", train_archives="all")
    assert contents(raw) == expected
    assert [start for path, start in hub.ranges if path == large] == [0, n_kept]


def test_a_world_is_made_anew_by_other_params_or_other_code_only(monkeypatch, tmp_path):
    facts, params = SOURCES["world"].made_from, World(seed=1, n_train=100, n_test=10, height_px=32)
    before = facts(params)
    assert facts(params) == before
    assert facts(params.model_copy(update={"seed": 2})) != before
    (tmp_path / "__init__.py").write_text("another world")
    monkeypatch.setattr(stages.world, "__file__", str(tmp_path / "__init__.py"))
    assert facts(params) != before


def test_earths_coastlines_are_where_they_are():
    coast = pl.read_csv(geography.earth_coastlines())
    assert coast.columns == ["line", "latitude", "longitude"]
    # From an atlas: Cape Agulhas, Cape Horn (Tierra del Fuego), Land's End; and no line may cross the whole map.
    for latitude, longitude in ((-34.83, 20.0), (-55.3, -67.5), (50.07, -5.7)):
        degrees = np.hypot(
            coast["latitude"] - latitude, (coast["longitude"] - longitude) * np.cos(np.radians(latitude))
        )
        assert degrees.min() < 1
    steps = coast.select(pl.col("longitude").diff().over("line").abs().max()).item()
    assert steps < 30


def test_earths_towns_are_geonames():
    towns = pl.read_csv(geography.earth_places(), infer_schema=False)
    assert towns.columns == ["lat", "lon", "name", "admin1", "admin2", "cc"]
    assert len(towns) > 100_000
    assert towns.filter(name="Windhoek", cc="NA").height == 1
