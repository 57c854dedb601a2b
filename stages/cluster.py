"""Where the heavy stages' calls run: one after another on this machine, or side by side on the nodes of a Ray cluster.

A stage lists its calls: a function with an archive, with a shard, with two parts of the photos. The functions, and so
the results, are the same on both; only the map over the calls differs.

Ray, because such a call is a plain task. It has no shuffle and no table, for which there are Spark and Ray Data; it
wants a core or a GPU, and to be run again elsewhere when its node is lost; and nodes need no more than a pip install.
Training is no map but a step that all processes take together: that is torchrun's (stages/train/ranks.py).
"""

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from tqdm import tqdm

from stages.cli import InputError
from stages.params import Cluster
from stages.shards import written_whole

INSTALL = "pip install -c .constraints.txt -e '.[cluster]'"
START = "start the cluster, as with `ray start --head`, or set cluster.address to null"
TIMEOUT_SECONDS = 5.0  # to reach the cluster's door
MAX_RETRIES = 20  # of a call whose process or node is lost; one that brings down each has to end some time
CALLS_AHEAD = 2  # for each core or GPU: calls that run, wait, or whose results wait; their arguments and files are kept


@dataclass(frozen=True)
class Call:
    """Arguments of a call, and the files that it reads and writes, relative to the working folder."""

    args: tuple
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()


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


class RayCluster:
    """Calls side by side on the nodes of a Ray cluster, each on a core, or on a GPU with its share of the cores.

    A call whose process or node is lost runs again elsewhere. Nodes work in folders of their own, so that two that
    make the same file, as when one was thought lost, do not meet; a file comes to the working folder when it is whole.
    """

    def __init__(self, ray, storage: str | None):
        self.ray, self.storage = ray, storage

    def share(self, value: Any) -> Any:
        """A reference to a value that many calls have among their arguments; it is sent to a node once."""
        return self.ray.put(value)

    def map(self, function: Callable, calls: Iterable[Call], advance: Callable, *, on_gpu: bool = False) -> Iterator:
        """Results of function(*args, n_cores=…, advance=…), in the order of the calls; see ThisMachine.map.

        advance is told when a call has ended.  Raises InputError if a call does, or if its process is lost every time.
        """
        nodes = self._nodes()
        need, n_at_once = _needs(list(nodes.values()), on_gpu)
        run = self.ray.remote(_run_on_node).options(**need, max_retries=MAX_RETRIES, scheduling_strategy="SPREAD")
        running = deque()

        def end_first() -> Any:
            call, answer = running.popleft()
            result, n_done = self._get(call, answer)
            self._take_over(call)
            advance(n_done)
            return result

        for call in calls:
            self._bring(call)
            where = (Path.cwd(), self.storage)
            running.append((call, run.remote(function, where, need["num_cpus"], call.reads, call.writes, *call.args)))
            if len(running) == CALLS_AHEAD * n_at_once:
                yield end_first()
        while running:
            yield end_first()
        if lost := nodes.keys() - self._nodes().keys():
            tqdm.write(f"{len(lost)} of {len(nodes)} nodes were lost; their calls ran on others", file=sys.stderr)

    def _nodes(self) -> dict[str, dict]:
        """Resources of the nodes that live, by their ids."""
        return {node["NodeID"]: node["Resources"] for node in self.ray.nodes() if node["Alive"]}

    def _get(self, call: Call, answer) -> tuple[Any, int]:
        try:
            return self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from None
            raise
        except (self.ray.exceptions.WorkerCrashedError, self.ray.exceptions.NodeDiedError) as error:
            raise InputError(
                f"the process that worked on {_named(call)} was lost {MAX_RETRIES + 1} times "
                f"({str(error).strip().splitlines()[0]}); look at the nodes' memory and logs, then run: dvc repro"
            ) from None

    def _bring(self, call: Call) -> None:
        """Copy what a call reads to where nodes find it."""
        if self.storage:
            for path in call.reads:
                _put(path, self.storage)

    def _take_over(self, call: Call) -> None:
        """Take what a call wrote from the storage, and leave nothing of it there."""
        if self.storage:
            for path in call.writes:
                with written_whole(path) as temporary:
                    _get(path, self.storage, temporary)
            with _opened(self.storage) as (files, root):
                for path in (*call.reads, *call.writes):
                    files.rm_file(f"{root}/{path}")
        for path in call.writes:
            if not path.exists():
                raise InputError(
                    f"a node wrote {path} to a folder that is not this one ({Path.cwd()}); let all nodes share it by "
                    "this name, or set cluster.storage to a URL that all of them reach"
                )
            for partial in path.parent.glob(f".{path.name}.*.partial"):  # of a process that was lost meanwhile
                partial.unlink(missing_ok=True)


def _needs(nodes: list[dict], on_gpu: bool) -> tuple[dict[str, int], int]:
    """What a call needs, as Ray's options, and how many such calls fit the nodes at once."""
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1] if on_gpu else []
    if not with_gpu:
        return {"num_cpus": 1, "num_gpus": 0}, max(1, int(sum(node.get("CPU", 0) for node in nodes)))
    n_cores = min(int(node.get("CPU", 0) // node["GPU"]) for node in with_gpu)
    return {"num_cpus": max(1, n_cores), "num_gpus": 1}, int(sum(node["GPU"] for node in with_gpu))


def _named(call: Call) -> str:
    return ", ".join(map(str, call.reads)) or "a part of the pairs"


def _run_on_node(
    function: Callable,
    where: tuple[Path, str | None],
    n_cores: int,
    reads: tuple[Path, ...],
    writes: tuple[Path, ...],
    *args,
) -> tuple[Any, int]:
    """The result of a function, and the number of photos or pairs that it told; runs in a folder of its own."""
    counted = []
    with tempfile.TemporaryDirectory(prefix="varioclip-") as scratch, contextlib.chdir(scratch):
        for path in reads:
            _fetch(path, *where)
        result = function(*args, n_cores=n_cores, advance=counted.append)
        for path in writes:
            _publish(path, *where)
    return result, sum(counted)


def _fetch(path: Path, shared: Path, storage: str | None) -> None:
    """Make a file of the storage, or if there is none of the shared folder, one of this folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if storage:
        _get(path, storage, path)
    elif (shared / path).exists():
        path.symlink_to(shared / path)
    else:
        raise InputError(
            f"node {socket.gethostname()} does not see {shared / path}; let all nodes share the folder by this name, "
            "or set cluster.storage to a URL that all of them reach"
        )


def _publish(path: Path, shared: Path, storage: str | None) -> None:
    """Put a file of this folder into the storage, or if there is none, whole, into the shared folder."""
    if storage:
        _put(path, storage)
        return
    target = shared / path
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    shutil.copyfile(path, temporary)
    temporary.replace(target)


def _put(path: Path, storage: str) -> None:
    with _opened(storage) as (files, root):
        files.makedirs(f"{root}/{path.parent}", exist_ok=True)
        files.put_file(str(path), f"{root}/{path}")


def _get(path: Path, storage: str, to: Path) -> None:
    with _opened(storage) as (files, root):
        files.get_file(f"{root}/{path}", str(to))


@contextlib.contextmanager
def _opened(storage: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """A storage's file system and its path in it; whatever they raise becomes an InputError."""
    try:
        yield fsspec.url_to_fs(storage)
    except Exception as error:  # each of fsspec's many file systems has errors of its own
        raise InputError(
            f"cluster.storage {storage} fails on {socket.gethostname()} ({type(error).__name__}: {error}); check the "
            "URL, the network, the rights, and that the package which fsspec needs for it is installed there"
        ) from None


Workers = ThisMachine | RayCluster


@contextlib.contextmanager
def workers(p: Cluster) -> Iterator[Workers]:
    """Where to work: this machine, or the cluster that params name.

    Raises InputError, within seconds, if it cannot be reached or Ray is not installed.
    """
    if p.address is None:
        yield ThisMachine()
        return
    try:
        import ray
    except ImportError:
        raise InputError(f"cluster.address is {p.address!r}, and Ray is not installed; run: {INSTALL}") from None
    _knock(p.address)
    try:
        # From an empty folder: nodes look for code in the driver's first, and a clone there may be another version.
        with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
            ray.init(
                p.address,
                runtime_env={"py_modules": [str(Path(__file__).parent)]},  # the nodes run this very code
                log_to_driver=False,
                logging_level="ERROR",
            )
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"cluster.address: no Ray cluster answers at {p.address} ({reason}); {START}") from None
    # A folder of its own: another run's files have the same names.
    storage = p.storage and f"{p.storage.rstrip('/')}/varioclip-{uuid.uuid4().hex}"
    try:
        yield RayCluster(ray, storage)
    finally:
        ray.shutdown()
        if storage:
            with _opened(storage) as (files, root):
                if files.exists(root):
                    files.rm(root, recursive=True)


def _knock(address: str) -> None:
    """Raise InputError if no gRPC server, as Ray's are, answers at HOST:PORT or ray://HOST:PORT.

    Ray itself tries for minutes.
    """
    host = address.removeprefix("ray://")
    if ":" not in host or os.environ.get("RAY_USE_TLS") == "1":  # a word such as auto; certificates that Ray alone has
        return
    import grpc

    with grpc.insecure_channel(host, options=[("grpc.enable_http_proxy", 0)]) as channel:  # nor does Ray use one
        try:
            grpc.channel_ready_future(channel).result(TIMEOUT_SECONDS)
        except grpc.FutureTimeoutError:
            raise InputError(
                f"cluster.address: no Ray cluster answers at {address} within {TIMEOUT_SECONDS:g} seconds; {START}"
            ) from None
