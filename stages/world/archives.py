"""Photos drawn and packed into zip archives, one process per core."""

import io
import multiprocessing
import os
import zipfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from stages.shards import written_whole
from stages.world.draw import draw_photo

JPEG_QUALITY = 90
FIXED_DATE = (1980, 1, 1, 0, 0, 0)  # a zip's first day: the same world has the same bytes tomorrow


@dataclass(frozen=True)
class Archive:
    """Photos of one zip file: their ids, their places' latents (n, k) and the seeds of their accidents."""

    path: Path
    ids: list[str]
    latents: np.ndarray
    seeds: list[list[int]]
    height_px: int


def write_archives(archives: list[Archive]) -> None:
    """Draw and write all archives; the bytes do not depend on the number of processes."""
    n_processes = min(len(archives), getattr(os, "process_cpu_count", os.cpu_count)() or 1)
    progress = tqdm(total=sum(len(a.ids) for a in archives), desc="draw the world", unit="photo", mininterval=1)
    # spawn: a fork of a process that runs threads, as NumPy's does, can hang.
    context = multiprocessing.get_context("spawn")
    with progress, ProcessPoolExecutor(n_processes, mp_context=context) as pool:
        tasks = {pool.submit(write_archive, archive): archive for archive in archives}
        for task in as_completed(tasks):
            task.result()
            progress.update(len(tasks[task].ids))


def write_archive(archive: Archive) -> None:
    """Draw the photos of an archive and write it, whole, with members NN/<id>.jpg."""
    with written_whole(archive.path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as file:
        for name, latents, seed in zip(archive.ids, archive.latents, archive.seeds, strict=True):
            member = zipfile.ZipInfo(f"{archive.path.stem}/{name}.jpg", FIXED_DATE)
            file.writestr(member, _jpeg(draw_photo(latents, archive.height_px, seed)))


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
