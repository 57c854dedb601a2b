"""Gallery embeddings kept between commands: embedding 100,000 places takes seconds, reading them none."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.evaluate.retrieval import GALLERY_CHUNK, chunked
from stages.shards import written_whole

# What an embedding depends on besides these files is our code: raise the number when place_embedding changes.
KEPT_FROM = ("model.safetensors", "config.json", "gallery.csv")
VERSION = b"1"


def cache_folder() -> Path:
    """The user's cache folder for this project; it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "varioclip"


def cache_file(folder: Path, release: Path) -> Path:
    """The file for a release's gallery embeddings; its name changes with the release's content."""
    digest = hashlib.sha256(VERSION)
    for name in KEPT_FROM:
        digest.update(hashlib.sha256((release / name).read_bytes()).digest())
    return folder / f"gallery-{digest.hexdigest()[:24]}.npy"


def kept(path: Path, n_places: int, embed: Callable[[], Iterable[Tensor]], device: torch.device) -> Iterator[Tensor]:
    """Embeddings (c, e) in chunks, from path if it exists; otherwise path is written first, with what embed gives.

    Memory holds one chunk at a time.
    """
    if not path.exists():
        with torch.inference_mode(), written_whole(path) as temporary:
            _write(temporary, n_places, embed())
    # torch.tensor copies: a file that is only mapped can't be written to, and torch has no read-only tensors.
    return (torch.tensor(rows, device=device) for rows in chunked(np.load(path, mmap_mode="r"), GALLERY_CHUNK))


def _write(path: Path, n_places: int, chunks: Iterable[Tensor]) -> None:
    """Write chunks (c, e), n_places rows in all, as one NumPy file of float32."""
    start, rows = 0, None
    for chunk in chunks:
        if rows is None:
            shape = (n_places, chunk.shape[1])
            rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        rows[start : start + len(chunk)] = chunk.cpu().numpy()
        start += len(chunk)
    rows.flush()
