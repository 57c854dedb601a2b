"""Files over HTTP: several at once, continued where they broke off, and checked before they get their names."""

import shutil
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.utils import get_session, hf_raise_for_status
from tqdm import tqdm

from stages.cli import InputError
from stages.download.manifest import sha256_of
from stages.shards import written_whole

FILES_AT_ONCE = 4
TIMEOUT_S = 30  # without a byte
WAITS_S = (1, 2, 4, 8, 16, 32, 64, 128)  # before a request is made again; the hub's limits last up to 5 minutes
TOO_MANY_REQUESTS, BEYOND_THE_END = 429, 416


class RemoteFile(NamedTuple):
    """What a server promises."""

    path: str  # below the folder that it is fetched into
    url: str
    size: int  # bytes
    sha256: str | None  # None if the server does not tell


def fetch_files(files: list[RemoteFile], folder: Path, headers: dict[str, str]) -> None:
    """Fetch files into folder; what came of one before a cut or a kill is kept beside its name and continued.

    Raises InputError for a file that is not what was promised, HTTPError if the server fails again and again.
    """
    stop = threading.Event()
    total, here = sum(file.size for file in files), sum(_size(partial_of(folder, file.path)) for file in files)
    bar = tqdm(desc="download", total=total, initial=here, unit="B", unit_scale=True, mininterval=1, disable=not files)

    def advance(n_bytes: int) -> None:
        with bar.get_lock():
            bar.update(n_bytes)

    with bar, ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        tasks = [pool.submit(_fetch, file, folder, headers, advance=advance, stop=stop) for file in files]
        try:
            for task in as_completed(tasks):
                task.result()
        finally:
            stop.set()  # on an error or Ctrl-C the others end with their next chunk
            pool.shutdown(cancel_futures=True)


def partial_of(folder: Path, path: str) -> Path:
    """Where the first bytes of a file wait for the others."""
    return (folder / path).with_name(f".{Path(path).name}.part")


def refuse_full_disk(paths_and_sizes: Iterable[tuple[str, int]], folder: Path, param: str) -> None:
    """Raise InputError if the disk of folder has no room for what is yet to come of files of these sizes in bytes."""
    needed = [size - _size(partial_of(folder, path)) for path, size in paths_and_sizes]
    needed_gb, free_gb = sum(needed) / 1e9, shutil.disk_usage(folder).free / 1e9
    if needed_gb > free_gb:
        raise InputError(
            f"{folder} needs {needed_gb:.1f} GB for {len(needed)} files, its disk has {free_gb:.1f} GB free; "
            f"name fewer archives in {param} or make room"
        )


def patiently(call: Callable[[], Any], errors: type[HTTPError], stop: threading.Event) -> Any:
    """What call() returns; while it raises errors that may pass, it is made again after each of WAITS_S, until stop."""
    for wait_s in WAITS_S:
        try:
            return call()
        except errors as error:
            if not _may_pass(error) or stop.is_set():
                raise
            wait_s = max(wait_s, _wanted_wait_s(error))
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"  # a time-out has no text
            tqdm.write(f"{reason}; again in {wait_s} s", file=sys.stderr)
            _wait(wait_s, stop)
    return call()


def _wait(wait_s: float, stop: threading.Event) -> None:
    stop.wait(wait_s)


def _may_pass(error: HTTPError) -> bool:
    """Whether an error is the network's or the server's, and not of the request."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code == TOO_MANY_REQUESTS or error.response.status_code >= 500
    return True


def _wanted_wait_s(error: HTTPError) -> int:
    """Seconds that the server asks us to wait; 0 if it does not."""
    wanted = error.response.headers.get("Retry-After", "") if isinstance(error, HfHubHTTPError) else ""
    return int(wanted) if wanted.isdigit() else 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch(
    file: RemoteFile, folder: Path, headers: dict[str, str], *, advance: Callable[[int], None], stop: threading.Event
) -> None:
    """Download one file and give it its name if it is what was promised."""
    partial = partial_of(folder, file.path)
    partial.parent.mkdir(parents=True, exist_ok=True)
    while (before := _size(partial)) < file.size and not stop.is_set():
        patiently(lambda: _continue(file, partial, headers, advance=advance, stop=stop), HTTPError, stop)
        if _size(partial) == before:  # the server has no more of it
            break
    if stop.is_set():
        return
    partial.touch()
    size = _size(partial)
    if size != file.size or (file.sha256 and sha256_of(partial) != file.sha256):
        partial.unlink()
        raise InputError(
            f"{file.path} came as {size:,} bytes that differ from the {file.size:,} the hub promised, "
            "in size or SHA-256; run again, and if it happens again, look at what stands between you and the hub"
        )
    with written_whole(folder / file.path) as temporary:
        partial.replace(temporary)


def _continue(
    file: RemoteFile,
    partial: Path,
    headers: dict[str, str],
    *,
    advance: Callable[[int], None],
    stop: threading.Event,
) -> None:
    """Append to partial what the server sends. Raises HTTPError if nothing came before the connection broke."""
    start = _size(partial)
    # Unpacked on the way, a compressed answer would have other byte positions than the file.
    headers = headers | {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
    n_new = 0
    try:
        with get_session().stream("GET", file.url, headers=headers, timeout=TIMEOUT_S) as response:
            if response.status_code == BEYOND_THE_END:
                return
            hf_raise_for_status(response)
            is_whole = response.status_code == 200  # the server knows no ranges
            if is_whole:
                advance(-start)
            with partial.open("wb" if is_whole else "ab") as out:
                for chunk in response.iter_raw():
                    out.write(chunk)
                    n_new += len(chunk)
                    advance(len(chunk))
                    if stop.is_set():
                        return
    except HTTPError:
        if not n_new:
            raise
