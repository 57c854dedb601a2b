"""A stage's calls, and this machine, which makes them one after another."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Call:
    """Arguments of a call, and the files that it reads and writes, relative to the working folder."""

    args: tuple
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return ", ".join(map(str, self.reads)) or "a part of the pairs"


@dataclass(frozen=True)
class ThisMachine:
    """Calls one after another, each on all cores."""

    n_cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))  # that we may use

    def share(self, value: Any) -> Any:
        """A value that many calls have among their arguments."""
        return value

    def map(self, function: Callable, calls: Iterable[Call], advance: Callable, *, on_gpu: bool = False) -> Iterator:
        """Results of function(*args, n_cores=…, advance=…), in the order of the calls.

        function tells advance(n) of every n photos or pairs that it has dealt with.  on_gpu: whether it uses a GPU if
        there is one.
        """
        return (function(*call.args, n_cores=self.n_cores, advance=advance) for call in calls)
