"""A folder or fsspec URL in OSV5M's layout."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import fsspec
from fsspec.callbacks import TqdmCallback
from fsspec.implementations.local import LocalFileSystem

from stages.cli import InputError
from stages.download.geography import COASTLINES, PLACES
from stages.download.transfer import refuse_full_disk
from stages.params import Mirror
from stages.shards import written_whole

CSVS = ["train.csv", "test.csv"]
UNKNOWN = -1  # size of a file whose server does not tell


def fetch_mirror(params: Mirror, folder: Path) -> tuple[list[str], None]:
    """Copy what params name and folder lacks. Returns the paths of all files, and None: a mirror has no revision.

    Raises InputError if the mirror, a CSV or a named archive is not there, or it has no archive at all.
    """
    url = params.url.rstrip("/")
    with _explained(url):
        files, root = fsspec.url_to_fs(url)
        if isinstance(files, LocalFileSystem) and not files.isdir(root):
            raise InputError(f"data.mirror.url {url} is not a folder; name a folder in OSV5M's layout, or its URL")
        paths = list(CSVS)
        for split, numbers in (("train", params.train_archives), ("test", params.test_archives)):
            paths += _archives(files, root, url, split, numbers)
        sizes = {path: _size(files, f"{root}/{path}") for path in [*paths, PLACES, COASTLINES]}
        for path in paths:
            if sizes[path] is None:
                raise InputError(f"{url}/{path} is missing; {_way_out(path)}")
        there = [path for path, size in sizes.items() if size is not None]
        missing = [path for path in there if not _is_here(folder / path, sizes[path])]
        folder.mkdir(parents=True, exist_ok=True)
        if not _is_same_disk(files, root, folder):
            needed = [(path, max(sizes[path], 0)) for path in missing]
            refuse_full_disk(needed, folder, "data.mirror.train_archives")
        for path in missing:
            _copy(files, f"{root}/{path}", folder / path)
    return there, None


def _is_here(target: Path, size: int) -> bool:
    return target.exists() and size in (UNKNOWN, target.stat().st_size)


def _is_same_disk(files: fsspec.AbstractFileSystem, root: str, folder: Path) -> bool:
    """Whether hard links will do."""
    return isinstance(files, LocalFileSystem) and Path(root).stat().st_dev == folder.stat().st_dev


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn whatever a file system of fsspec raises into an InputError that names the mirror."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # each of fsspec's many file systems has errors of its own
        raise InputError(
            f"data.mirror.url {url} can't be read ({type(error).__name__}: {error}); check the URL, the network, and "
            "that the package which fsspec needs for it is installed; then run again, to go on from here"
        ) from None


def _way_out(path: str) -> str:
    if path in CSVS:
        return "OSV5M's layout has train.csv, test.csv and images/{train,test}/NN.zip: check data.mirror.url"
    return f"take its number out of data.mirror.{Path(path).parent.name}_archives, or set that to all"


def _archives(files: fsspec.AbstractFileSystem, root: str, url: str, split: str, numbers: list[int] | str) -> list[str]:
    """Paths of a split's archives: those with the numbers, or all. Raises InputError if there is none."""
    if numbers != "all":
        return [f"images/{split}/{number:02d}.zip" for number in sorted(set(numbers))]
    try:
        names = [path.rsplit("/", 1)[-1] for path in files.ls(f"{root}/images/{split}", detail=False)]
    except FileNotFoundError:
        names = []
    if not (archives := sorted(name for name in names if re.fullmatch(r"\d+\.zip", name))):
        raise InputError(
            f"{url}/images/{split} shows no archive NN.zip; check data.mirror.url, or where a server does not list its "
            f"folders, name the archives' numbers in data.mirror.{split}_archives"
        )
    return [f"images/{split}/{name}" for name in archives]


def _size(files: fsspec.AbstractFileSystem, path: str) -> int | None:
    """Size of a file in bytes, or UNKNOWN; None if it is not there."""
    try:
        size = files.info(path)["size"]
    except FileNotFoundError as error:
        # fsspec says so of a web server that refuses or can't be reached too; there the cause tells.
        cause = error.__cause__
        if cause is None or isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) == 404:
            return None
        raise cause from None
    return UNKNOWN if size is None else size


def _copy(files: fsspec.AbstractFileSystem, source: str, target: Path) -> None:
    """Hard link where source is on the same disk, else copy; whole or not at all."""
    with written_whole(target) as temporary:
        if isinstance(files, LocalFileSystem):
            with contextlib.suppress(OSError):  # another disk, or one without hard links
                os.link(source, temporary)
                return
        bar = {"desc": target.name, "unit": "B", "unit_scale": True, "mininterval": 1, "leave": False}
        files.get_file(source, str(temporary), callback=TqdmCallback(tqdm_kwargs=bar))
