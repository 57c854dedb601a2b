"""Photos that a person names on the command line: files and folders of them."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from stages.cli import InputError

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


def read_photo(path: Path) -> Image.Image:
    """The photo as RGB, upright as its camera says.

    Raises InputError, with the reason, if it can't be read whole.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image that Pillow knows") from None
    except (OSError, ValueError, Image.DecompressionBombError, SyntaxError) as error:
        raise InputError(f"{path} can't be read: {error}") from None
