"""The formulas behind reports/scaling.md, against the code that they speak of and against sums done by hand."""

import random
from collections import OrderedDict
from dataclasses import fields, replace

import numpy as np
import pytest

from stages.variogram.empirical import lag_edges_km
from stages.variogram.exhaustive import PART, sum_all_pairs
from stages.variogram.tiles import N_MOMENTS
from tests.benchmarks.scaling import limits, model, page

NOTHING = model.Costs(**{field.name: 0.0 for field in fields(model.Costs)})
NODE, GPU = model.Node(), model.Gpu()
ENDLESS = replace(NODE, network_bytes_s=1e30), replace(GPU, fp32_flop_s=1e30, bytes_s=1e30)
# In round numbers what was measured.
COSTS = model.Costs(
    shard_s=4e-3,
    shard_process_bytes=6e8,
    row_s=4e-6,
    row_bytes=100,
    call_s=2e-5,
    call_bytes=200,
    csv_bytes=600,
    archive_bytes=7e4,
    shard_bytes=2e4,
    decode_s=2e-3,
    encode_s=2,
    encode_flop=1.6e11,
    encoder_bytes=2e9,
    center_s=1e-5,
    feature_bytes=1600,
    variogram_start_s=5,
    variogram_s=5e-6,
    variogram_bytes=300,
    pair_s=6e-9,
    pair_width_s=1e-11,
    pair_call_s=1e-3,
    split_s=3e-6,
    split_bytes=300,
    step_place_s=2e-4,
    step_pair_s=4e-7,
    step_flop=2.6e11,
    weights=1e7,
    gather_s=4e-6,
    place_s=2e-4,
    place_flop=2e7,
    search_s=1e-9,
    search_width_s=1e-11,
    gallery_bytes=40,
    gallery_s=2e-7,
    gallery_memory_bytes=130,
)


def photos_for(n_training):
    """Photos of which so many are for training."""
    return model.N_TEST + (n_training - 0.01) / (1 - model.VALIDATION_SHARE)  # rounding would add a part


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


def test_no_number_of_nodes_is_quicker_than_the_main_process_hands_out_the_calls_of_all_pairs():
    costs, n = replace(NOTHING, pair_call_s=1e-3), photos_for(10 * PART)
    assert model.all_pairs(costs, n, 64, *ENDLESS).seconds == pytest.approx(0.055)  # 10 · 11 / 2 calls
    assert model.all_pairs(costs, n, 1, *ENDLESS).seconds == pytest.approx(0, abs=1e-9)  # calls of a function


def test_all_pairs_wait_for_the_slower_of_calls_and_gpus():
    n, pairs = photos_for(10 * PART), 10 * PART * (10 * PART - 1) / 2
    gpu = replace(ENDLESS[1], bytes_s=model.BYTES_A_PAIR * pairs / GPU.fp32_share)  # a second for all
    for call_s, nodes, seconds in ((1e-3, 2, 0.5), (1e-3, 64, 0.055), (1, 2, 55)):
        need = model.all_pairs(replace(NOTHING, pair_call_s=call_s), n, nodes, ENDLESS[0], gpu)
        assert need.seconds == pytest.approx(seconds)
        assert need.gpu_s == pytest.approx(1)


def fetched_in_fact(n_parts, nodes, in_store):
    """Parts that a node fetches, and that the main machine sends, when nodes take turns and ask any that has a part."""
    rng, sent, got = random.Random(0), 0, 0
    stores = [OrderedDict() for _ in range(nodes)]  # the part used last is last
    calls = [(row, col) for row in range(n_parts) for col in range(row, n_parts)]
    for number, call in enumerate(calls):
        store = stores[number % nodes]
        for part in call:
            if part not in store:
                n_holders = sum(part in other for other in stores)
                # The main machine has as many in memory as a node, which ones is chance; the others are on its disk.
                is_in_memory = rng.random() < in_store / n_parts
                sent += n_holders == 0 or (is_in_memory and rng.randrange(n_holders + 1) == 0)
                got += 1
            store[part] = True
            store.move_to_end(part)
            if len(store) > in_store:
                store.popitem(last=False)
    return got / nodes, sent


@pytest.mark.parametrize(
    ("nodes", "in_store", "factor"),
    [(4, 200, 1.1), (16, 200, 1.1), (4, 150, 2), (4, 66, 2), (64, 28, 2), (4, 34, 2), (2, 66, 2)],
    ids=["all fit", "many nodes", "most fit", "all together", "many together", "not even together", "two nodes"],
)
def test_parts_go_over_the_wires_as_they_do_from_store_to_store(nodes, in_store, factor):
    n_parts = 200
    part = PART * model.part_bytes(model.WIDTH)
    node = replace(NODE, memory_bytes=in_store * part / model.STORE_SHARE)
    got, sent = model.fetched(n_parts * PART, nodes, node)
    expected_got, expected_sent = fetched_in_fact(n_parts, nodes, in_store)
    assert 1 / factor < got / part / expected_got < factor
    assert 1 / factor < sent / part / expected_sent < factor


def test_a_ring_of_two_sends_half_of_the_gradients_and_embeddings_there_and_half_back():
    costs = replace(NOTHING, weights=1000)
    assert model.exchanged_bytes(costs, 2, 10) == 2 * 4 * (500 + 5 * model.EMBEDDING)
    assert model.exchanged_bytes(costs, 1, 10) == 0


@pytest.mark.parametrize("nodes", page.NODES)
@pytest.mark.parametrize("n", page.N_PHOTOS)
def test_no_machine_moves_more_than_its_network_carries_in_the_time(n, nodes):
    for need in model.needs(COSTS, n, nodes, NODE, GPU):
        carried = 1.0001 * need.seconds * NODE.network_bytes_s
        assert need.driver_sent_bytes <= carried, need.stage
        assert need.node_sent_bytes <= carried, need.stage


@pytest.mark.parametrize("nodes", page.NODES)
def test_more_photos_never_need_less(nodes):
    sizes = np.geomspace(1e6, 1e10, 60)
    runs = [model.needs(COSTS, n, nodes, NODE, GPU) for n in sizes]
    for fewer, more in zip(runs, runs[1:], strict=False):
        for a, b in zip(fewer, more, strict=True):
            assert {k: v for k, v in vars(a).items() if k != "stage" and v > 1.0001 * vars(b)[k]} == {}, a.stage


def test_a_cost_reaches_its_limit_where_it_is_said_to():
    assert limits.breaks_at(lambda n: n**2, 1e12) == pytest.approx(1e6, rel=1e-3)
    assert limits.breaks_at(lambda n: 0 * n, 1.0) > 1e14  # never


@pytest.mark.parametrize(
    ("stage", "what", "of", "figure"),
    [
        ("shard", "outgrow", "shard", "driver_bytes"),
        ("variogram", "outgrow", "variogram, stratified", "driver_bytes"),
        (model.ALL_PAIRS, "outgrow", model.ALL_PAIRS, "driver_bytes"),
        ("train, evaluate", "outgrow", "train, an epoch", "driver_bytes"),
        ("evaluate", "reading gallery.csv", "evaluate, a loss", "driver_bytes"),
        (model.ALL_PAIRS, "over a day", model.ALL_PAIRS, "seconds"),
        ("evaluate", "on a GPU", "evaluate, image k-NN", "seconds"),
    ],
)
def test_a_limit_is_where_the_table_passes_it(stage, what, of, figure):
    (at,) = [at for at, its, text, _ in limits.limits(COSTS, NODE, GPU) if its == stage and what in text]
    limit, nodes = (NODE.memory_bytes, 1) if figure == "driver_bytes" else (model.DAY, 64)
    below, above = (
        next(getattr(need, figure) for need in model.needs(COSTS, n, nodes, NODE, GPU) if need.stage == of)
        for n in (0.98 * at, 1.02 * at)
    )
    assert below < limit < above


def test_all_pairs_at_a_millisecond_a_call_take_a_day_from_120_million_photos_on():
    found = [at for at, stage, what, _ in limits.limits(COSTS, NODE, GPU) if stage == model.ALL_PAIRS and "day" in what]
    # 86.4 million calls, so 13,145 parts of 8,192, nine tenths of the photos.
    assert found == [pytest.approx(13_145 * 8192 / 0.9, rel=0.01)]


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


def test_without_gpus_every_core_has_a_model():
    costs = replace(NOTHING, encoder_bytes=2e9)
    with_gpu, without = (model.encoding_bytes(costs, NODE, n) for n in (NODE.gpus, NODE.cores))
    assert without - with_gpu == pytest.approx(15 * 2e9)


def test_a_step_gathers_nothing_while_the_features_fit_the_gpu():
    costs = replace(NOTHING, gather_s=1e-6)
    assert model.gather_s(costs, 5e6, 4608, NODE, GPU) == 0
    n_training = model.n_training(2e9)
    on_disk = 1 - NODE.memory_bytes / (n_training * 2 * 768)
    expected = 4608 * (1e-6 + on_disk * 1e-4)
    assert model.gather_s(costs, 2e9, 4608, NODE, GPU) == pytest.approx(expected)


def test_limits_come_in_the_order_of_their_photos():
    found = [at for at, *_ in limits.limits(COSTS, NODE, GPU)]
    assert found == sorted(found)


def test_the_page_names_every_size_and_what_it_passes():
    seconds = {"whole": 20.0, "small": 2.0}
    rounds = [dict.fromkeys(("shard", "features", "variogram"), seconds)]
    figures = {
        "machine": "a machine of two cores",
        "workers": {"this machine, 1 core": rounds, "cluster, 1 worker": rounds},
        "nearest": [[[], {"1000": 1.0, "100": 3.0}]],
        "call": [[[], {"thread_s": 1e-3, "process_s": 3e-3}]],
    }
    lines = page.page(figures, COSTS, [("sharding", 2.0, 1.9, "s")]).splitlines()
    few, more, most = (line for line in lines if line.startswith("- **"))
    assert few.startswith("- **5 million photos**:")
    assert few.endswith("Nothing breaks.")
    assert "passes: 2, first 29 million, train" in more
    assert "**It does not run as it is**: a node has too little memory for shard; variogram" in most
    assert "| sharding | 2 s | 1.9 s | -5% |" in lines
