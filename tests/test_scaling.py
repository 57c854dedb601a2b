"""The formulas behind reports/scaling.md, against the code that they speak of and against sums done by hand."""

from dataclasses import fields, replace

import numpy as np
import pytest

from stages.variogram.empirical import lag_edges_km
from stages.variogram.exhaustive import PART, sum_all_pairs
from stages.variogram.tiles import N_MOMENTS
from tests.benchmarks.scaling import limits, model

NOTHING = model.Costs(**{field.name: 0.0 for field in fields(model.Costs)})
NODE, GPU = model.Node(), model.Gpu()


class CountingMachine:
    """Does no work, and counts what it is asked for."""

    def __init__(self):
        self.n_calls, self.n_bytes = 0, 0

    def share(self, part):
        self.n_bytes += sum(array.nbytes for array in vars(part).values())
        return part

    def map(self, function, calls, advance, *, on_gpu):
        for call in calls:
            self.n_calls += 1
            rows, cols, _, edges_km, _ = call.args
            n_blocks = (len(np.unique(part.blocks)) for part in (rows, cols))
            yield np.zeros((*n_blocks, len(edges_km) - 1, N_MOMENTS))


@pytest.mark.parametrize("n", [PART, PART + 1, 3 * PART])
def test_all_pairs_has_the_calls_and_sends_the_bytes_that_the_model_says(n):
    machine, d, one = CountingMachine(), 4, np.zeros(n, np.int64)
    sum_all_pairs(np.zeros((n, 3)), np.zeros((n, d), np.float32), one, one, lag_edges_km(0.1, 5), machine=machine)
    assert machine.n_calls == model.n_calls(n)
    assert machine.n_bytes == n * model.part_bytes(d)


def test_a_cost_reaches_its_limit_where_it_is_said_to():
    assert limits.breaks_at(lambda n: n**2, 1e12) == pytest.approx(1e6, rel=1e-3)
    assert limits.breaks_at(lambda n: 0 * n, 1.0) > 1e14  # never


def test_sharding_takes_its_core_seconds_over_the_cores_until_a_core_has_one_archive():
    costs = replace(NOTHING, shard_s=0.01)
    one, eight, many = (model.shard(costs, 5.2e6, nodes, NODE) for nodes in (1, 8, 1000))
    assert one.seconds == pytest.approx(5.2e4 / 16)
    assert eight.seconds == pytest.approx(520)  # 100 archives of 52,000 photos for 128 cores
    assert many.seconds == pytest.approx(520)
    assert one.cpu_s == many.cpu_s == pytest.approx(5.2e4)


def test_no_node_helps_against_what_the_main_process_does_alone():
    costs = replace(NOTHING, shard_s=0.01, call_s=1e-3)
    assert model.shard(costs, 1e8, 64, NODE).seconds == pytest.approx(1e8 * 1e-3)


def test_features_wait_for_the_slower_of_decoding_and_encoding():
    costs = replace(NOTHING, decode_s=0.0, encode_flop=GPU.bf16_flop_s * GPU.encoder_share / 1000)
    assert model.features(costs, 1e8, 8, NODE, GPU).seconds == pytest.approx(1e8 / 8 / 1000)
    assert model.features(replace(costs, decode_s=0.032), 1e8, 8, NODE, GPU).seconds == pytest.approx(1e8 / 8 / 500)


def test_a_step_gathers_nothing_while_the_features_fit_the_gpu():
    costs = replace(NOTHING, gather_s=1e-6)
    assert model.gather_s(costs, 5e6, 4608, NODE, GPU) == 0
    n_training = model.n_training(2e9)
    on_disk = 1 - NODE.memory_bytes / (n_training * 2 * 768)
    expected = 4608 * (1e-6 + on_disk * 1e-4)
    assert model.gather_s(costs, 2e9, 4608, NODE, GPU) == pytest.approx(expected)


def test_limits_come_in_the_order_of_their_photos():
    found = [at for at, *_ in limits.limits(replace(NOTHING, **dict.fromkeys(vars(NOTHING), 1e-6)), NODE, GPU)]
    assert found == sorted(found)
