import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from stages.cli import InputError
from stages.train.ranks import Ranks, check, joined


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("n_queue", [0, 1, 7, 12])
def test_shares_cover_every_candidate_and_own_anchors_come_first(size, n_queue):
    ranks = [Ranks(rank, size) for rank in range(size)]
    shares = [one.share(6, n_queue) for one in ranks]
    assert set(np.concatenate(shares).tolist()) == set(range(6 + n_queue))
    assert len({len(share) for share in shares}) == 1
    for one, share in zip(ranks, shares, strict=True):
        order = one.own_first(6, n_queue)
        assert sorted(order.tolist()) == list(range(6 + n_queue))
        assert order[: 6 // size].tolist() == share[: 6 // size].tolist()


def launched(monkeypatch, **environment):
    """Let this process be one that torchrun started."""
    for name, value in {"TORCHELASTIC_RUN_ID": "test", **environment}.items():
        monkeypatch.setenv(name, str(value))


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    check(512, 4)
    with pytest.raises(InputError, match="train.batch_size 512 is not a multiple of the 3 processes; make it one"):
        check(512, 3)
    launched(monkeypatch, WORLD_SIZE=6, LOCAL_RANK=0)
    with pytest.raises(InputError, match="not a multiple of the 6 processes"):
        check(512, 1)


def test_processes_without_a_gpu_each_are_refused_where_there_are_gpus(monkeypatch):
    check(512, 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check(512, 2)
    message = "4 processes need a GPU each, and this machine has 2; lower train.n_processes .* to 2"
    with pytest.raises(InputError, match=message):
        check(512, 4)
    launched(monkeypatch, WORLD_SIZE=8, LOCAL_RANK=1)  # four on each of two machines
    check(512, 4)
    launched(monkeypatch, WORLD_SIZE=8, LOCAL_RANK=3)
    with pytest.raises(InputError, match=message):
        check(512, 1)


def test_alone_there_is_nothing_to_join():
    with joined() as (ranks, device):
        assert ranks == Ranks(0, 1)
        assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
        values = torch.arange(3.0)
        ranks.average([values])
        assert ranks.gather(values, 3, 0) is values
        assert values.tolist() == [0, 1, 2]


def _gather(rank, size, store, results):
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    ranks, table = Ranks(rank, size), torch.arange(9.0).reshape(9, 1).requires_grad_()
    candidates = ranks.gather(table[torch.from_numpy(ranks.share(4, 5))], 4, 5)
    # Each process weighs candidate k by k + 1 and by its own number.
    order = torch.from_numpy(ranks.own_first(4, 5))
    ((order + 1) * candidates[:, 0] * (rank + 1)).sum().backward()
    total = table.grad.clone()
    distributed.all_reduce(total)
    mean = torch.full((2,), float(rank))
    ranks.average([mean])
    answer = ranks.answer_of_first(lambda: f"the answer of {rank}")
    results[rank] = (order.tolist(), candidates[:, 0].tolist(), total[:, 0].tolist(), mean.tolist(), answer)
    distributed.destroy_process_group()


def test_processes_exchange_embeddings_gradients_means_and_an_answer(tmp_path):
    results = multiprocessing.Manager().dict()
    multiprocessing.spawn(_gather, (2, tmp_path / "store", results), nprocs=2)
    for rank in range(2):
        order, candidates, total, mean, answer = results[rank]
        assert order == ([0, 1, 2, 3, 4, 5, 6, 7, 8] if rank == 0 else [2, 3, 0, 1, 4, 5, 6, 7, 8])
        assert candidates == order
        # The gradient of the sum over processes: (k + 1) (1 + 2), wherever candidate k was embedded.
        assert total == [3.0 * (k + 1) for k in range(9)]
        assert mean == [0.5, 0.5]
        assert answer == "the answer of 0"


def test_alone_a_process_agrees_with_itself():
    assert Ranks().agree_on(("digest", 3))
