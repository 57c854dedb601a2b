"""A zip archive of photos, read in place."""

import functools
import lzma
import zipfile
import zlib
from pathlib import Path

import polars as pl

from stages.cli import InputError
from stages.shard.images import UnusableImageError, prepare

DAMAGED = "damaged in the archive"
SUFFIXES = (".jpg", ".jpeg")
MAX_IMAGE_BYTES = 100_000_000  # a member that says it is larger is no photo: it is not unpacked

MEMBER_SCHEMA = {"id": pl.String, "member": pl.UInt32, "offset": pl.UInt64, "bytes": pl.UInt64, "crc": pl.UInt32}


def list_photos(path: Path) -> pl.DataFrame:
    """An archive's photos in the order in which they lie in it: MEMBER_SCHEMA; member is the number in the directory.

    The id is the file's name without its suffix, whatever folder it is in; other files are passed over.
    Raises InputError if the file is not a whole zip archive.
    """
    photos = []
    for number, member in enumerate(_opened(path).infolist()):
        folder, _, name = member.filename.replace("\\", "/").rpartition("/")
        stem, dot, suffix = name.rpartition(".")
        if dot + suffix.lower() in SUFFIXES and "__MACOSX" not in folder and not name.startswith("."):
            photos.append((stem, number, member.header_offset, member.file_size, member.CRC))
    return pl.DataFrame(photos, schema=MEMBER_SCHEMA, orient="row").sort("offset")


def read_photos(path: Path, members: list[int], short_side_px: int) -> list[bytes | str]:
    """Photos of an archive as images.prepare makes them; in place of one that can't be used the reason."""
    return [_read(path, member, short_side_px) for member in members]


def _read(path: Path, number: int, short_side_px: int) -> bytes | str:
    archive = _opened(path)
    member = archive.infolist()[number]
    if member.file_size > MAX_IMAGE_BYTES:
        return "too many bytes"
    try:
        return prepare(archive.read(member), short_side_px)
    except UnusableImageError as error:
        return str(error)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, UnicodeDecodeError):
        return DAMAGED  # checksum, length, encryption, unknown compression, name
    except OSError as error:
        if error.errno is not None:  # the disk's, and not bzip2's
            raise
        return DAMAGED


@functools.lru_cache(maxsize=1)  # the directory of 50,000 photos takes half a second to read
def _opened(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
        if any(member.header_offset < 0 for member in archive.infolist()):
            raise zipfile.BadZipFile("its directory is damaged")
        return archive
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not a whole zip archive ({error}, {path.stat().st_size:,} bytes); "
            f"delete it, then get it again: rm {path} && dvc repro download"
        ) from None
