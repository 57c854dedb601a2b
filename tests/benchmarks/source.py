"""A source in OSV5M's layout and weight, and the stages run on it as a person runs them."""

import hashlib
import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from PIL import Image
from ruamel.yaml import YAML

from stages.shards import feature_schema

ROOT = Path(__file__).parents[2]
RECORD_BATCH = 4096  # photos; see stages/features/shard.py
N_UNREAD = 20  # columns of OSV5M that no stage reads, all short, beside the URL


def jpegs(n: int, size: tuple[int, int]) -> list[bytes]:
    """n JPEGs of size (width, height): soft noise with a little grain, so that they weigh what photos weigh."""
    rng = np.random.default_rng(0)
    photos = []
    for _ in range(n):
        soft = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize(size)
        grain = rng.normal(0, 2.5, (size[1], size[0], 1))
        buffer = io.BytesIO()
        Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        photos.append(buffer.getvalue())
    return photos


def write_csv(path: Path, ids: np.ndarray, seed: int = 0) -> None:
    """A CSV in OSV5M's columns and of its weight, 580 bytes a row, a million rows at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, len(ids), 1_000_000):
        part = ids[start : start + 1_000_000]
        n = len(part)
        rows = pl.DataFrame({"id": part, "latitude": rng.uniform(-60, 70, n), "longitude": rng.uniform(-180, 180, n)})
        rows = rows.with_columns(
            pl.lit("https://example.org/" + 280 * "x").alias("thumb_original_url"),
            country=pl.lit("KE"),
            region=pl.lit("Rift Valley"),
            city=pl.lit("Nakuru"),
            sequence=pl.format("drive_of_a_car_{}", pl.col("id") // 8),
            captured_at=pl.lit("1551234567000"),
        )
        rows = rows.with_columns(pl.lit("1234.5678").alias(f"unread_{i}") for i in range(N_UNREAD))
        rows = rows.with_columns(pl.lit(None, pl.String).alias("sub-region"))
        with path.open("ab") as file:
            rows.write_csv(file, include_header=start == 0)


def write_source(folder: Path, archives: dict[str, np.ndarray], photos: list[bytes], n_rows: int = 0) -> None:
    """A source in OSV5M's layout: archives, such as train/00, by their ids; n_rows: of train.csv, if it has more."""
    (folder / "images").mkdir(parents=True)
    for name, ids in archives.items():
        path = folder / "images" / f"{name}.zip"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as file:
            for number, photo_id in enumerate(ids.tolist()):
                file.writestr(f"{path.stem}/{photo_id}.jpg", photos[number % len(photos)])
    for split in ("train", "test"):
        ids = np.concatenate([ids for name, ids in archives.items() if name.startswith(split)])
        more = np.arange(n_rows - len(ids)) + 10**16 if split == "train" and n_rows else np.array([], int)
        write_csv(folder / f"{split}.csv", np.random.default_rng(1).permutation(np.concatenate([ids, more])))


def write_params(folder: Path, source: str, **changes: object) -> None:
    """The repository's params with another source and changed values of its section."""
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["data"]["source"] = source
    params["data"][source].update({"train_archives": "all", "test_archives": "all", **changes})
    params["shard"]["max_rejected_fraction"] = 1.0
    folder.mkdir(exist_ok=True)
    yaml.dump(params, folder / "params.yaml")


def write_features(path: Path, latitude: np.ndarray, longitude: np.ndarray, width: int) -> None:
    """An Arrow shard of photos at places, both (n,) in degrees, in drives of eight, with random unit features."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema, rng = feature_schema(width).with_metadata({b"made_from": b"a benchmark"}), np.random.default_rng(0)
    n = len(latitude)
    with pa.ipc.new_file(str(path), schema) as file:
        for start in range(0, n, RECORD_BATCH):
            number = range(start, min(start + RECORD_BATCH, n))
            feature = rng.standard_normal((len(number), width), np.float32)
            feature /= np.linalg.norm(feature, axis=1, keepdims=True)
            at = slice(start, start + len(number))
            columns = {
                "id": [str(10**15 + i) for i in number],
                "latitude": latitude[at],
                "longitude": longitude[at],
                "country": ["KE"] * len(number),
                "region": ["Rift Valley"] * len(number),
                "city": ["Nakuru"] * len(number),
                "sequence": [f"drive_of_a_car_{i // 8}" for i in number],
                "captured_at": ["1551234567000"] * len(number),
                "feature": pa.FixedSizeListArray.from_arrays(pa.array(feature.astype(np.float16).ravel()), width),
            }
            arrays = [pa.array(columns.get(field.name, [None] * len(number)), field.type) for field in schema]
            file.write_batch(pa.record_batch(arrays, schema=schema))


def change_params(folder: Path, **sections: dict) -> None:
    """Change values of sections of a project's params."""
    yaml, path = YAML(), folder / "params.yaml"
    params = yaml.load(path)
    for name, changes in sections.items():
        params[name].update(changes)
    yaml.dump(params, path)


def start_stage(stage: str, folder: Path, **environment: str) -> subprocess.Popen:
    """The stage as a person runs it, with its log in folder."""
    command, environment = [sys.executable, "-m", f"stages.{stage}"], {"PYTHONPATH": str(ROOT), **environment}
    with (folder / f"{stage}.log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, env=os.environ | environment, stdout=log, stderr=log)


def finish(stage: str, folder: Path, process: subprocess.Popen) -> None:
    """Wait for a stage; leave with its log if it failed."""
    if process.wait():
        sys.exit((folder / f"{stage}.log").read_text()[-2000:])


def run_stage(stage: str, folder: Path, **environment: str) -> float:
    """Seconds that the stage took."""
    start = time.perf_counter()
    finish(stage, folder, start_stage(stage, folder, **environment))
    return time.perf_counter() - start


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below folder, by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
