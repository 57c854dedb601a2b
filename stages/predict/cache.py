"""Gallery embeddings kept between commands: embedding 100,000 places takes seconds, reading them none."""

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.evaluate.retrieval import GALLERY_CHUNK, chunked
from stages.train.release import CONFIG, WEIGHTS

# What an embedding depends on besides a release's files is our code: raise the number when place_embedding changes.
VERSION = b"2"
_ABANDONED_AFTER_SECONDS = 86_400  # no gallery takes a day: what wrote such a file was killed


def cache_folder() -> Path:
    """The user's cache folder for this project; it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "varioclip"


def cache_file(folder: Path, release: Path, gallery_file: Path) -> Path:
    """The file for the embeddings of a release's gallery: gallery-WHERE-WHAT.npy.

    WHERE changes with the release's path, WHAT with the content of its files.
    """
    where = hashlib.sha256(os.fsencode(release.resolve())).hexdigest()
    what = hashlib.sha256(VERSION)
    for path in (release / WEIGHTS, release / CONFIG, gallery_file):
        what.update(hashlib.sha256(path.read_bytes()).digest())
    return folder / f"gallery-{where[:16]}-{what.hexdigest()[:24]}.npy"


def keep(path: Path, n_places: int, chunks: Iterable[Tensor]) -> None:
    """Write embeddings, chunks (c, e) of n_places rows in all, and remove those of the release as it was before.

    Memory holds one chunk at a time.  Raises OSError if the folder can't be written to, or its disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: two processes may keep the same embeddings at once, and the last one's are as good.
    handle, name = tempfile.mkstemp(suffix=".partial", prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, torch.inference_mode():
            _write(file, n_places, chunks)
            file.flush()
            os.fsync(handle)  # the bytes before the name: a power cut must not leave a whole name on half a file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _remove_older(path)


def _write(file, n_places: int, chunks: Iterable[Tensor]) -> None:
    """Write chunks (c, e), n_places rows in all, as one NumPy file of float32.

    Not through a mapped file: on a full disk that ends the process without a word.
    """
    for number, chunk in enumerate(chunks):
        if number == 0:
            header = {"descr": "<f4", "fortran_order": False, "shape": (n_places, chunk.shape[1])}
            np.lib.format.write_array_header_1_0(file, header)
        file.write(chunk.cpu().numpy().astype("<f4").tobytes())


def _remove_older(path: Path) -> None:
    """Remove other files of the same release, and those that a killed process left half written."""
    where = path.name.rpartition("-")[0]
    for other in path.parent.glob(f"{where}-*.npy"):
        if other != path:
            other.unlink(missing_ok=True)
    for partial in path.parent.glob(".gallery-*.partial"):
        with suppress(FileNotFoundError):  # its own process was quicker
            if time.time() - partial.stat().st_mtime > _ABANDONED_AFTER_SECONDS:
                partial.unlink()


def read(path: Path) -> np.ndarray:
    """Embeddings (g, e) that were kept, mapped from disk.  Raises OSError if there are none."""
    return np.load(path, mmap_mode="r")


def on_device(rows: np.ndarray, device: torch.device) -> Iterator[Tensor]:
    """Mapped rows (g, e) in chunks (c, e), copied to a device one at a time."""
    # torch.tensor copies: a file that is only mapped can't be written to, and torch has no read-only tensors.
    return (torch.tensor(chunk, device=device) for chunk in chunked(rows, GALLERY_CHUNK))
