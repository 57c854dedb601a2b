"""What runs on a node of a cluster: a call, in a folder of its own."""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.cluster.files import SharedFolder, Storage


def run_on_node(
    function: Callable,
    files: SharedFolder | Storage,
    n_cores: int,
    reads: tuple[Path, ...],
    writes: tuple[Path, ...],
    *args,
) -> tuple[Any, int]:
    """The result of a function, and the number of photos or pairs that it told; runs in a folder of its own."""
    counted = []
    # A process that is killed, as for its memory, cannot remove its folder: its pid tells the next that it is dead.
    prefix = f"varioclip-{socket.gethostname()}-"
    _remove_folders_of_the_dead(prefix)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-") as scratch, contextlib.chdir(scratch):
        for path in reads:
            files.fetch(path)
        result = function(*args, n_cores=n_cores, advance=counted.append)
        for path in writes:
            files.publish(path)
    return result, sum(counted)


def _remove_folders_of_the_dead(prefix: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        try:
            os.kill(int(folder.name.removeprefix(prefix).partition("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except PermissionError:  # another person's, which lives
            pass
