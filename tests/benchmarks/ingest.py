"""What the ingestion stands, and how fast it is: python -m tests.benchmarks.ingest kill, speed or size.

kill    the download (from a hub of its own), shard and features stages are killed at random moments and run again
speed   sharding against unzip and Pillow on the same photos
size    a CSV of OSV5M's size and archives with OSV5M's number of photos, all of them small: memory and time
All photos are noise, and all files are in a temporary folder.
"""

import contextlib
import io
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import typer
from PIL import Image

from stages.cli import show_table
from stages.shard.images import prepare
from tests.benchmarks.source import finish, hashes, jpegs, run_stage, start_stage, write_params, write_source
from tests.download.conftest import FakeHub, served

OUTPUTS = {"download": "raw", "shard": "shards", "features": "features"}
OSV5M_PHOTOS, OSV5M_ARCHIVES = 5_100_000, 98
SHORT_SIDE_PX = 256
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def kill(stages: list[str] = typer.Argument(None), moments: int = 20, seed: int = 0) -> None:
    """Kill each stage at random moments of its life; its rerun must end with the bytes of a run that was not killed."""
    with tempfile.TemporaryDirectory() as name:
        source, project = Path(name, "source"), Path(name, "project")
        archives = {f"train/{k:02}": np.arange(100) + 1000 * k for k in range(4)} | {"test/00": np.arange(60) + 10**6}
        write_source(source, archives, jpegs(60, (480, 360)))
        write_params(project, "hub", repository="some/photos")
        files = {path: (source / path).read_bytes() for path in hashes(source)}
        with served(FakeHub(files=files, pause_s=0.01)) as hub:
            environment, rows = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}, []
            for stage in OUTPUTS:
                whole_s = run_stage(stage, project, **environment)
                if stage in (stages or OUTPUTS):
                    found = kill_stage(stage, project, whole_s, moments=moments, seed=seed, environment=environment)
                    rows.append((stage, f"{whole_s:.1f}", *found))
    columns = ("stage", "whole run, s", "kills", "left files", "same bytes", "rerun, s")
    show_table("Killed and run again", columns, rows)
    if any(n_kills != n_same for _, _, n_kills, _, n_same, _ in rows):
        sys.exit("a rerun ended with other bytes")


def kill_stage(
    stage: str, project: Path, whole_s: float, *, moments: int, seed: int, environment: dict[str, str]
) -> tuple[int, int, int, str]:
    """Kill a stage that starts from nothing, one moment after the other.

    Returns the number of kills, of those that left files, and of reruns with the same bytes; a rerun's mean seconds.
    """
    out, rng = project / "data/hub" / OUTPUTS[stage], random.Random(seed)
    expected, n_with_files, n_same, seconds = hashes(out), 0, 0, 0.0
    for moment in range(moments):
        shutil.rmtree(out)
        process = start_stage(stage, project, **environment)
        time.sleep((moment + rng.random()) / moments * whole_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        n_with_files += len(hashes(out)) > 1  # than the fingerprint
        seconds += run_stage(stage, project, **environment)
        n_same += hashes(out) == expected
    return moments, n_with_files, n_same, f"{seconds / moments:.1f}"


@app.command()
def speed(n_photos: int = 3000) -> None:
    """Shard photos of 640 x 480 pixels, and do with unzip and Pillow what a script would."""
    n_cores, photos = len(os.sched_getaffinity(0)), jpegs(300, (640, 480))
    with tempfile.TemporaryDirectory() as name:
        folder, half = Path(name), np.arange(n_photos // 2)
        archives = {"train/00": half, "train/01": half + n_photos, "test/00": np.array([10**9])}
        write_source(folder / "source", archives, photos)
        write_params(folder / "project", "mirror", url=str(folder / "source"))
        run_stage("download", folder / "project")
        works = {
            "shard stage": lambda: run_stage("shard", folder / "project"),
            "unzip, then Pillow": lambda: shrink_all(unzip(folder), 1),
            f"unzip, then Pillow in {n_cores} processes": lambda: shrink_all(unzip(folder), n_cores),
        }
        times = {what: [] for what in works}
        for _ in range(2):  # they take turns: a busy machine is busy for all
            for what, work in works.items():
                shutil.rmtree(folder / "project/data/mirror/shards", ignore_errors=True)
                shutil.rmtree(folder / "plain", ignore_errors=True)
                times[what].append(times_of(work))
    best = {what: np.min(its_times, axis=0) for what, its_times in times.items()}
    stage_s, stage_core_s = best["shard stage"]
    rows = [(what, f"{n_photos / s:,.0f}", f"{core_s:.1f}", f"{s / stage_s:.2f}") for what, (s, core_s) in best.items()]
    for what, work in (("decoding", decode), ("all of Pillow's work", lambda data: prepare(data, SHORT_SIDE_PX))):
        core_s = core_seconds_each(work, photos) * n_photos
        rows.append((f"of the stage: {what}", "", f"{core_s:.1f}", f"{core_s / stage_core_s:.0%} of its core seconds"))
    rows.append((f"{OSV5M_PHOTOS:,} photos, extrapolated", f"{OSV5M_PHOTOS / n_photos * stage_s / 3600:.1f} h", "", ""))
    kb = np.mean([len(photo) for photo in photos]) / 1e3
    title = f"{n_photos:,} photos of 640 x 480, {kb:.0f} kB, {n_cores} cores"
    show_table(title, ("what", "photos/s", "core seconds", "time over the stage's"), rows)


def times_of(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of a call, and the seconds of all cores in the processes that it starts."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def core_seconds_each(work: Callable[[bytes], object], photos: list[bytes]) -> float:
    """Core seconds that work takes for a photo."""
    start = time.process_time()
    for data in photos:
        work(data)
    return (time.process_time() - start) / len(photos)


def unzip(folder: Path) -> list[Path]:
    """The photos of all archives as files."""
    (folder / "plain").mkdir()
    for archive in (folder / "source/images").rglob("*.zip"):
        to = folder / "plain" / archive.parent.name
        subprocess.run(["unzip", "-q", archive, "-d", to], check=True)
    return sorted((folder / "plain").rglob("*.jpg"))


def shrink_all(paths: list[Path], n_processes: int) -> None:
    """Shrink photos in their places."""
    with ProcessPoolExecutor(n_processes) as pool:
        list(pool.map(shrink, paths, chunksize=64))


def shrink(path: Path) -> None:
    """Shrink a photo to the stage's size and quality."""
    with Image.open(path) as image:
        scale = SHORT_SIDE_PX / min(image.size)
        image.convert("RGB").resize([round(side * scale) for side in image.size]).save(path, "JPEG", quality=90)


def decode(data: bytes) -> None:
    """Decode a photo as far as the stage does."""
    image = Image.open(io.BytesIO(data))
    image.draft(None, (SHORT_SIDE_PX, SHORT_SIDE_PX))
    image.load()


@app.command()
def size(n_archives: int = 30, n_rows: int = OSV5M_PHOTOS, n_distinct: int = 3000, n_features: int = 5000) -> None:
    """Download, shard and embed a source with OSV5M's rows and n_archives of its archives; show what memory that takes.

    The features are those of a smaller first archive: the stage goes from shard to shard, its encoder decides the time.
    """
    n_each, rows = n_rows // OSV5M_ARCHIVES, []
    with tempfile.TemporaryDirectory() as name:
        source, project = Path(name, "source"), Path(name, "project")
        archives = {f"train/{k:02}": np.arange(n_each) + 10**9 + k * n_each for k in range(1, n_archives)}
        archives |= {"train/00": np.arange(n_features) + 10**9, "test/00": np.arange(2000)}
        write_source(source, archives, jpegs(n_distinct, (96, 72)), n_rows)
        write_params(project, "mirror", url=str(source), train_archives=list(range(n_archives)))
        for stage in OUTPUTS:
            rows.append((stage, *watch_stage(stage, project)))
            if stage == "shard":
                for path in (project / "data/mirror/shards").glob("*/*.parquet"):
                    if path.stem != "00000":
                        path.unlink()
        gb = (source / "train.csv").stat().st_size / 1e9
    title = f"{n_rows:,} rows in {gb:.1f} GB of CSV, {n_archives} archives of {n_each:,} photos"
    show_table(title, ("stage", "seconds", "main process, peak MB", "all, MB in each quarter of the time"), rows)


def watch_stage(stage: str, project: Path) -> tuple[str, str, str]:
    """Run a stage. Returns its seconds, the peak resident memory of its main process, and that of all in each quarter.

    All processes: without the pages of files, which the system takes back when it wants to.
    """
    start, process, main_mb, all_mb = time.perf_counter(), start_stage(stage, project), [], []
    while process.poll() is None:
        with contextlib.suppress(OSError, KeyError):  # a process that has just ended
            main_mb.append(memory_mb(process.pid)["VmRSS"])
            all_mb.append(sum(memory_mb(pid)["RssAnon"] for pid in (process.pid, *children(process.pid))))
        time.sleep(0.2)
    finish(stage, project, process)
    quarters = [f"{part.max():,.0f}" for part in np.array_split(np.array(all_mb), 4)]
    return f"{time.perf_counter() - start:.0f}", f"{max(main_mb):,.0f}", ", ".join(quarters)


def memory_mb(pid: int) -> dict[str, float]:
    """The memory lines of a process's status, in MB."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) / 1024 for words in lines if words[-1] == "kB"}


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    lists = [(task / "children").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for children_of_task in lists for child in children_of_task]


if __name__ == "__main__":
    app()
