"""Worker processes that end with their parent, and their results in order."""

import functools
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

CALLS_AHEAD = 64  # that run, or whose results wait: bounds the memory


@functools.cache  # processes take a second to start, and an archive may be small
def process_pool(n_cores: int) -> Executor:
    """A pool of as many processes as cores; of a single core a thread, beside that of the caller."""
    if n_cores == 1:
        return ThreadPoolExecutor(1)
    # spawn: a fork of a process that runs threads, as polars does, can hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(n_cores, mp_context=context, initializer=_end_with_parent)


def in_order(pool: Executor, function: Callable, calls: Iterable[tuple]) -> Iterator:
    """Results of function(*call), in the order of the calls."""
    running = deque()
    for call in calls:
        running.append(pool.submit(function, *call))
        if len(running) == CALLS_AHEAD:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _end_with_parent() -> None:
    """End this process when its parent ends: a parent that is killed cannot tell it."""

    def wait() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
