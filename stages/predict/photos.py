"""Photos that a person names on the command line: files and folders of them."""

import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from stages.cli import InputError
from stages.shard.images import UnusableImageError, prepare

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")


def list_photos(paths: Iterable[Path]) -> list[Path]:
    """The named files, and in place of each folder the photos in and below it by name; each once.

    Raises InputError if a folder holds no photo. A named file need not end like a photo, nor exist.
    """
    photos = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise InputError(f"folder {path} holds no photo; looked for files ending in {', '.join(SUFFIXES)}")
            photos += inside
        else:
            photos.append(path)
    return list(dict.fromkeys(photos))


def read_photo(path: Path, short_side_px: int) -> Image.Image:
    """The photo as training would have seen it: upright, its short side at most short_side_px (0: no limit).

    Raises InputError, with the reason, if it can't be read to its end.
    """
    try:
        data = prepare(path.read_bytes(), short_side_px)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnusableImageError as error:
        raise InputError(f"{path}: {error}") from None
    return Image.open(io.BytesIO(data))
