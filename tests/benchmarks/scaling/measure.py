"""What a photo, a pair, a training step and a place of the gallery cost on a core of this machine.

Each measurement has a process of its own, so that its memory is its own, on a single core unless it is of a cluster.
"""

import contextlib
import importlib
import io
import multiprocessing
import os
import pickle
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from scipy.spatial import cKDTree
from torch.utils.flop_counter import FlopCounterMode

from stages.evaluate.gallery import embed_places, read_gallery
from stages.evaluate.retrieval import GALLERY_CHUNK, chunked, retrieve
from stages.features.encoder import UNTRAINED, load_encoder
from stages.features.shard import center_shard, sum_of_features
from stages.geo import EARTH_RADIUS_KM, unit_vectors
from stages.params import load_params
from stages.shard import spool, write
from stages.shard.__main__ import call_for
from stages.shard.archive import list_photos
from stages.shards import FeatureRows
from stages.train.setup import read_split
from stages.variogram.empirical import lag_edges_km
from stages.variogram.exhaustive import sum_all_pairs
from stages.world import geography, roads
from tests.benchmarks.ingest import core_seconds_each, memory_mb
from tests.benchmarks.scaling.model import PHOTOS_AN_ARCHIVE, WIDTH
from tests.benchmarks.source import (
    RECORD_BATCH,
    ROOT,
    jpegs,
    run_stage,
    write_csv,
    write_features,
    write_params,
    write_source,
)
from tests.benchmarks.train import RECIPE, WIDTHS, new_run, random_photos
from tests.benchmarks.variogram import places, unit_noise


def watched(function: Callable, *args) -> dict[str, float]:
    """function(*args) in a process of its own on one core; its figures, its memory before and its growth."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_on_one_core) as pool:
        pid = pool.submit(os.getpid).result()
        before = peak = memory_mb(pid)["RssAnon"]  # without the pages of files, which the system takes back
        future = pool.submit(function, *args)
        while not future.done():
            peak = max(peak, memory_mb(pid)["RssAnon"])
            time.sleep(0.01)
        return future.result() | {"base_bytes": before * 2**20, "memory_bytes": (peak - before) * 2**20}


def alone(function: Callable) -> dict[str, float]:
    """function() in a process of its own on all cores; its figures."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function).result()


def _on_one_core() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)


def core_seconds(work: Callable[[], object]) -> float:
    """Seconds of a core that a call takes, however busy the machine is with other things."""
    start = time.process_time()
    work()
    return time.process_time() - start


@contextlib.contextmanager
def quietly(folder: Path = ROOT) -> Iterator[None]:
    """Work in a folder and print nothing."""
    out = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        yield


def stage_costs(stage: str, project: Path) -> dict[str, float]:
    """Core seconds of a whole stage."""
    with quietly(project):
        return {"seconds": core_seconds(importlib.import_module(f"stages.{stage}.__main__").main)}


def photo_project(folder: Path, n: int) -> Path:
    """A project with an archive of n photos of 640 x 480 for training, and one of ten for testing."""
    write_source(
        folder / "source", {"train/00": np.arange(n), "test/00": np.arange(10)}, jpegs(min(n, 300), (640, 480))
    )
    write_params(folder / "project", "mirror", url=str(folder / "source"))
    run_stage("download", folder / "project")
    return folder / "project"


def shard_costs(n: int, folder: Path) -> dict[str, float]:
    """Core seconds of sharding n photos, and a photo's bytes in the archive and in its shard."""
    project = photo_project(folder / f"photos{n}", n)
    found = watched(stage_costs, "shard", project)
    size = {name: sum(path.stat().st_size for path in project.rglob(name)) / n for name in ("00.zip", "00000.parquet")}
    return found | {"archive_bytes": size["00.zip"], "shard_bytes": size["00000.parquet"]}


def variogram_costs(n: int, folder: Path) -> dict[str, float]:
    """Core seconds of the variogram stage for n photos; their features are narrow, as few of them are read."""
    project = folder / f"pairs{n}"
    write_params(project, "mirror")
    write_features(project / "data/mirror/features/train/00000.arrow", *towns(n), 32)
    return watched(stage_costs, "variogram", project)


def split_costs(n: int, width: int, folder: Path) -> dict[str, float]:
    """Core seconds in which training reads, checks and hashes n photos' features."""
    split = folder / f"split{n}x{width}"
    write_features(split / "00000.arrow", *towns(n), width)
    return watched(timed_split, split)


def timed_split(folder: Path) -> dict[str, float]:
    """Core seconds of read_split."""
    return {"seconds": core_seconds(lambda: read_split(folder))}


def shard_rows(n: int, folder: Path) -> dict[str, float]:
    """Core seconds of the shard stage's main process for a CSV of n rows and for an archive; bytes of a call."""
    ids, p = np.arange(n) + 10**9, load_params(ROOT / "params.yaml").shard
    archive, csv = folder / "images/train/00.zip", folder / f"{n}.csv"
    rows = spool.Spool(folder / f"{n}.arrow", n // PHOTOS_AN_ARCHIVE)
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        for photo_id in ids[:PHOTOS_AN_ARCHIVE].tolist():
            file.writestr(f"00/{photo_id}.jpg", b"")
    write_csv(csv, np.random.default_rng(0).permutation(ids))
    names = (pl.Series("id", part).cast(pl.String) for part in chunked(ids, PHOTOS_AN_ARCHIVE))
    with quietly():
        start = time.process_time()
        index = spool.PhotoIndex(names)
        drawn = spool.validation_rows(found := spool.spool_rows(csv, index, p.filter, rows), p)
        read = time.process_time()
        listed = list_photos(archive)
        listing = time.process_time()
        photos, left_out = write.match(listed.with_columns(is_elsewhere=pl.lit(False)), rows.rows_of(0))
        is_val = pl.Series(drawn[photos["row"].to_numpy() - 2])
        photos = photos.with_columns(split=pl.when(is_val).then(pl.lit("val")).otherwise(pl.lit("train")))
        call = call_for(archive, photos, left_out, folder, p.short_side_px)
        sent = pickle.dumps(call.args)
        end = time.process_time()
    assert found.n_rows == n
    return {
        "row_s": (read - start) / n,
        "call_s": (2 * (listing - read) + end - listing) / len(photos),  # listed twice
        "call_bytes": len(sent) / len(photos),
        "csv_bytes": csv.stat().st_size / n,
    }


def encoder_costs(n: int = 4) -> dict[str, float]:
    """Core seconds to decode a photo of a shard and to encode it with ViT-L-14, and the operations of that."""
    torch.backends.mha.set_fastpath_enabled(False)  # its operations are not counted
    encoder = load_encoder("ViT-L-14", UNTRAINED, 0)
    photos = jpegs(64, (341, 256))  # as sharding leaves them
    decode_s = core_seconds_each(lambda data: encoder.preprocess(Image.open(io.BytesIO(data))), photos)
    batch = torch.stack([encoder.preprocess(Image.open(io.BytesIO(data))) for data in photos[:n]])
    with FlopCounterMode(display=False) as counter:
        encode_s = core_seconds(lambda: encoder.encode(batch)) / n
    return {"decode_s": decode_s, "encode_s": encode_s, "encode_flop": counter.get_total_flops() / n}


def towns(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes (n,) of photos in 20,000 towns."""
    return places(n, 0, n_towns=20_000)


def center_costs(folder: Path, n: int = 20_000) -> dict[str, float]:
    """Core seconds to centre a photo's feature, and its bytes on disk."""
    path = folder / "center" / "00000.arrow"
    write_features(path, *towns(n), WIDTH)

    def center() -> None:
        center_shard(path, path.with_name("00001.arrow"), (sum_of_features(path) / n).astype(np.float32), "")

    return {"center_s": core_seconds(center) / n, "feature_bytes": path.stat().st_size / n}


def pair_costs(n: int, width: int) -> dict[str, float]:
    """Core seconds a pair of the exhaustive semivariogram of n photos."""
    vectors, features, edges_km = unit_vectors(*places(n, 0)), unit_noise(n, width), lag_edges_km(0.1, 40)
    blocks = np.sort(np.arange(n) % 40)

    def work(m: int) -> None:
        sum_all_pairs(vectors[:m], features[:m], np.arange(m), blocks[:m], edges_km)

    with quietly():
        work(100)  # compile
        return {"seconds": core_seconds(lambda: work(n)) / (n * (n - 1) / 2)}


def step_costs(batch_size: int, queue_size: int) -> dict[str, float]:
    """Core seconds and operations of a step of the loss semivariogram, at GeoCLIP's sizes."""
    changes = WIDTHS | RECIPE | {"batch_size": batch_size, "queue_size": queue_size}
    run = new_run(
        "semivariogram", load_params(ROOT / "params.yaml").train.model_copy(update=changes), random_photos(WIDTH)
    )
    with FlopCounterMode(display=False) as counter:
        run.advance()
    weights = sum(weight.numel() for weight in run.model.parameters())
    return {
        "seconds": min(core_seconds(run.advance) for _ in range(2)),
        "flop": counter.get_total_flops(),
        "weights": weights,
    }


def gather_costs(n_photos: int, n_rows: int = 4608) -> dict[str, float]:
    """Core seconds to take the features of a step's photos, at random, among n_photos that are all in memory."""
    chunks = np.split(np.ones((64 * RECORD_BATCH, WIDTH), np.float16), 64)  # 400 MB, which no cache holds
    features = FeatureRows(chunks * (n_photos // RECORD_BATCH // 64))
    rows = np.random.default_rng(0).integers(0, len(features), n_rows)
    return {"seconds": min(core_seconds(lambda: features[rows]) for _ in range(3))}


@torch.inference_mode()
def retrieval_costs(n_queries: int = 2000, n_places: int = 4 * GALLERY_CHUNK) -> dict[str, float]:
    """Core seconds to embed a place, and of a query and place, at two widths of the embedding; operations a place."""
    model = new_run(
        "infonce", load_params(ROOT / "params.yaml").train.model_copy(update=WIDTHS), random_photos(WIDTH)
    ).model
    angles = np.random.default_rng(0).uniform(-60, 60, (2, n_places))
    with FlopCounterMode(display=False) as counter, quietly():
        costs = {"place_s": core_seconds(lambda: list(embed_places(model, *angles))) / n_places}
    costs["place_flop"] = counter.get_total_flops() / n_places
    for width in (256, 512):
        queries, gallery = (torch.from_numpy(unit_noise(n, width)) for n in (n_queries, n_places))
        took = min(core_seconds(lambda: retrieve(queries, chunked(gallery, GALLERY_CHUNK), 5)) for _ in range(2))  # noqa: B023
        costs[f"search_{width}_s"] = took / (n_queries * n_places)
    return costs


def gallery_costs(n: int, folder: Path) -> dict[str, float]:
    """Bytes and core seconds of a place in a gallery's CSV."""
    path, rng = folder / f"gallery{n}.csv", np.random.default_rng(0)
    pl.DataFrame({"LAT": rng.uniform(-60, 70, n), "LON": rng.uniform(-180, 180, n)}).write_csv(path)
    return {"gallery_bytes": path.stat().st_size / n, "gallery_s": core_seconds(lambda: read_gallery(path)) / n}


def nearest_km(n: int = 100_000, shares: tuple[float, ...] = (1, 1 / 4, 1 / 16, 1 / 64)) -> dict[int, float]:
    """Median distance (km) of the world's test places to the nearest of a gallery, by the gallery's size."""
    land = geography.Land(1)
    towns = geography.name_areas(geography.found_towns(land, 1), 1)
    train, test = (
        unit_vectors(
            *roads.photo_places(land, towns, m, split=split, seed=1).select("latitude", "longitude").to_numpy().T
        )
        for m, split in ((n, "train"), (2048, "test"))
    )
    order, found = np.random.default_rng(0).permutation(n), {}
    for share in shares:
        gallery = train[order[: round(share * n)]]
        chord = cKDTree(gallery).query(test)[0]
        found[len(gallery)] = float(np.median(2 * EARTH_RADIUS_KM * np.arcsin(chord / 2)))
    return found
