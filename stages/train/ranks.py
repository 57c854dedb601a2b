"""Training in several processes, one a GPU: each embeds its share of a step's places, and all see every embedding.

Not the gradients alone are shared, as for a plain classifier: a photo's negatives are the places of all processes.
"""

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, distributed

from stages.cli import InputError

OTHERS_FIRST_SECONDS = 10.0  # more than a process that fails takes to end, and torchrun to see it


@dataclass(frozen=True)
class Ranks:
    """Number of this process among those that train together."""

    rank: int = 0
    size: int = 1

    def share(self, n_batch: int, n_queue: int) -> np.ndarray:
        """Candidates (m,) that this process embeds, of a batch and after it a queue; its anchors come first."""
        return self._shares(n_batch, n_queue)[self.rank]

    def own_first(self, n_batch: int, n_queue: int) -> np.ndarray:
        """All candidates (b + q,), beginning with the own share of the batch: anchor i's positive is candidate i."""
        batch = np.roll(np.arange(n_batch), -self.rank * n_batch // self.size)
        return np.concatenate([batch, np.arange(n_batch, n_batch + n_queue)])

    def gather(self, embedding: Tensor, n_batch: int, n_queue: int) -> Tensor:
        """Embeddings (b + q, e) of all candidates in the order of own_first, from those (m, e) of each share.

        Gradients flow back to the process that made an embedding.
        """
        if self.size == 1:
            return embedding
        embedded_by_all = _Gather.apply(embedding)
        position = np.empty(n_batch + n_queue, np.int64)
        shares = self._shares(n_batch, n_queue)
        position[shares.ravel()] = np.arange(shares.size)
        return embedded_by_all[torch.from_numpy(position[self.own_first(n_batch, n_queue)]).to(embedding.device)]

    def agree_on(self, value: object) -> bool:
        """Whether all processes have the same value."""
        if self.size == 1:
            return True
        values = [None] * self.size
        distributed.all_gather_object(values, value)
        return all(other == value for other in values)

    def answer_of_first(self, ask: Callable[[], object]) -> object:
        """What ask gives in the first process; the others do not ask."""
        answer = [ask() if self.rank == 0 else None]
        if self.size > 1:
            distributed.broadcast_object_list(answer)
        return answer[0]

    def average(self, tensors: list[Tensor]) -> None:
        """Replace tensors of one dtype by their means over the processes, in one message."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.ravel() for tensor in tensors])
        distributed.all_reduce(flat)
        parts = (flat / self.size).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def _shares(self, n_batch: int, n_queue: int) -> np.ndarray:
        """Candidates (size, m) of each process; a queue that does not divide is filled up with its first ones."""
        batch, queue = np.arange(n_batch), np.arange(n_batch, n_batch + n_queue)
        queue = np.resize(queue, -(-n_queue // self.size) * self.size)
        return np.concatenate([batch.reshape(self.size, -1), queue.reshape(self.size, -1)], axis=1)


class _Gather(torch.autograd.Function):
    """Rows (m, e) of all processes as one tensor (size m, e); a row's gradient is the sum of what all have for it."""

    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        own = gradient.new_empty(len(gradient) // distributed.get_world_size(), *gradient.shape[1:])
        distributed.reduce_scatter_single(own, gradient.contiguous())  # half of what an all-reduce would send
        return own


def is_launched() -> bool:
    """Whether this process was started by torchrun."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def check(batch_size: int, n_processes: int) -> None:
    """Raise InputError if the processes cannot share a batch, or have no GPU each on a machine with GPUs.

    They are those that torchrun started, else n_processes of this machine.
    """
    n_here = n_processes
    if is_launched():
        n_processes, n_here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"]) + 1
    if batch_size % n_processes:
        raise InputError(f"train.batch_size {batch_size} is not a multiple of the {n_processes} processes; make it one")
    if torch.cuda.is_available() and n_here > (n_gpus := torch.cuda.device_count()):
        raise InputError(
            f"{n_here} processes need a GPU each, and this machine has {n_gpus}; lower train.n_processes "
            f"(torchrun's --nproc-per-node) to {n_gpus}"
        )


@contextmanager
def joined() -> Iterator[tuple[Ranks, torch.device]]:
    """Number and device of this process, joined with the others that torchrun started, if it did.

    An error is said once: by the first process if all have it, else by the one that has it, not by those it leaves.
    """
    if not is_launched():
        yield Ranks(), torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    atexit.register(os._exit, 1)  # a process that fails just ends: leaving the group may wait for the others, for ever
    try:
        yield _join()
    except Exception as error:
        if os.environ["RANK"] != "0" or isinstance(error, RuntimeError):  # as when another has left the group
            time.sleep(OTHERS_FIRST_SECONDS)  # torchrun ends this process now, if another has failed
        raise
    distributed.destroy_process_group()
    atexit.unregister(os._exit)


def _join() -> tuple[Ranks, torch.device]:
    """Meet the other processes."""
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)  # agree_on sends its objects through the current one
    # torchrun keeps its store over a restart: without a prefix, processes would look for those that are dead.
    store, rank, size = next(distributed.rendezvous("env://"))
    store = distributed.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    distributed.init_process_group(
        "nccl" if has_gpu else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        device_id=device if has_gpu else None,
    )
    return Ranks(rank, size), device


def _end_with(parent: int) -> None:
    """End this process when its parent ends: a parent that is killed cannot tell it, and a rerun must be alone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
