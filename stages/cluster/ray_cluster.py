"""The nodes of a Ray cluster, which make calls side by side."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tqdm import tqdm

from stages.cli import InputError
from stages.cluster.calls import Call
from stages.cluster.files import SharedFolder, Storage
from stages.cluster.join import INSTALL, MAX_RETRIES
from stages.cluster.node import run_on_node

CALLS_AHEAD = 2  # for each core or GPU: calls that run, wait, or whose results wait; their arguments and files are kept
WAIT_SECONDS = 10.0  # for a call's result, before we look whether there is a node for it


class RayCluster:
    """Calls side by side on the nodes of a Ray cluster, each on a core, or on a GPU with its share of the cores.

    A call whose process or node is lost runs again elsewhere. Nodes work in folders of their own, so that two that
    make the same file, as when one was thought lost, do not meet; a file comes to the working folder when it is whole.
    """

    def __init__(self, ray, files: SharedFolder | Storage):
        self.ray, self.files = ray, files

    def share(self, value: Any) -> Any:
        """A reference to a value that many calls have among their arguments; it is sent to a node once."""
        return self.ray.put(value)

    def map(self, function: Callable, calls: Iterable[Call], advance: Callable, *, on_gpu: bool = False) -> Iterator:
        """Results of function(*args, n_cores=…, advance=…), in the order of the calls; see ThisMachine.map.

        advance is told when a call has ended.  Raises InputError if a call does, or if its process is lost every time.
        """
        nodes = self._nodes()
        need = need_of_a_call(list(nodes.values()), on_gpu)
        n_ahead = CALLS_AHEAD * max(1, sum(n_at_once(node, need) for node in nodes.values()))
        run = self.ray.remote(run_on_node).options(**need, max_retries=MAX_RETRIES, scheduling_strategy="SPREAD")
        running = deque()

        def end_first() -> Any:
            call, answer = running.popleft()
            self._wait(answer, need)
            result, n_done = self._get(call, answer)
            for path in call.writes:
                self.files.take(path)
            for path in call.reads:
                self.files.forget(path)
            advance(n_done)
            return result

        for call in calls:
            for path in call.reads:
                self.files.bring(path)
            answer = run.remote(function, self.files, need["num_cpus"], call.reads, call.writes, *call.args)
            running.append((call, answer))
            if len(running) == n_ahead:
                yield end_first()
        while running:
            yield end_first()
        if lost := nodes.keys() - self._nodes().keys():
            tqdm.write(f"{len(lost)} of {len(nodes)} nodes were lost; their calls ran on others", file=sys.stderr)

    def _nodes(self) -> dict[str, dict[str, float]]:
        """Resources of the nodes that live, by their ids."""
        return {node["NodeID"]: node["Resources"] for node in self.ray.nodes() if node["Alive"]}

    def _wait(self, answer, need: dict[str, int]) -> None:
        """Wait for an answer; say so once if it waits for a node that can give it."""
        is_said = False
        while not self.ray.wait([answer], timeout=WAIT_SECONDS)[0]:
            if not is_said and not any(n_at_once(node, need) for node in self._nodes().values()):
                what = "a GPU with its share of cores" if need["num_gpus"] else "a core"
                tqdm.write(f"no node of the cluster has {what}; waiting for one that joins", file=sys.stderr)
                is_said = True

    def _get(self, call: Call, answer) -> tuple[Any, int]:
        try:
            return self.ray.get(answer)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from None
            if isinstance(error.cause, ModuleNotFoundError):
                raise InputError(
                    f"a node of the cluster lacks a package ({error.cause}); run on every machine: {INSTALL}"
                ) from None
            raise
        except self.ray.exceptions.RayError as error:
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            raise InputError(
                f"the cluster does not bring {call} to an end, also after {MAX_RETRIES} more tries if its process "
                f"was lost ({reason}); look at the nodes' memory and logs, then run: dvc repro"
            ) from None


def need_of_a_call(nodes: list[dict[str, float]], on_gpu: bool) -> dict[str, int]:
    """What a call needs, as Ray's options: a core, or a GPU with as many cores as each GPU of the nodes has."""
    shares = [int(node["CPU"] // node["GPU"]) for node in nodes if node.get("GPU", 0) >= 1 <= node.get("CPU", 0)]
    if on_gpu and shares:
        return {"num_cpus": max(1, min(shares)), "num_gpus": 1}
    return {"num_cpus": 1, "num_gpus": 0}


def n_at_once(node: dict[str, float], need: dict[str, int]) -> int:
    """Number of such calls that a node can make at once."""
    n_by_cores = int(node.get("CPU", 0) // need["num_cpus"])
    return min(n_by_cores, int(node.get("GPU", 0))) if need["num_gpus"] else n_by_cores
