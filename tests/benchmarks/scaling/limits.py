"""From how many photos on something breaks, and what to do then."""

import math
from collections.abc import Callable

from tests.benchmarks.scaling.model import (
    ALL_PAIRS,
    DAY,
    HOUR,
    PHOTOS_AN_ARCHIVE,
    VALIDATION_SHARE,
    WIDTH,
    Costs,
    Gpu,
    Node,
    all_pairs,
    image_knn,
    part_bytes,
    start_of_training_s,
)


def breaks_at(cost: Callable[[float], float], limit: float) -> float:
    """The number of photos at which a rising cost reaches its limit."""
    low, high = 1e4, 1e15
    while high / low > 1.0001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if cost(middle) >= limit else (middle, high)
    return high


def limits(c: Costs, node: Node, gpu: Gpu) -> list[tuple[float, str, str, str]]:
    """(photos, stage, what breaks, what to do), by photos."""
    memory, gb, gpu_gb = node.memory_bytes, f"{node.memory_bytes / 1e9:.0f} GB", f"{gpu.memory_bytes / 1e9:.0f} GB"
    a_training_photo = 1 / (1 - VALIDATION_SHARE)
    storage_bytes = c.archive_bytes + 2 * c.shard_bytes + c.feature_bytes
    found = []

    def add(n: float, stage: str, what: str, way_out: str) -> None:
        found.append((n, stage, what, way_out))

    add(
        memory / c.row_bytes,
        "shard",
        f"ids, cells and drives outgrow {gb} in the main process",
        "parts of the source in projects of their own; validation is then drawn within each",
    )
    add(65_536 * PHOTOS_AN_ARCHIVE, "shard", "an archive's number has 16 bits, and wraps", "larger archives")
    add(2.0**32, "shard", "a row's number has 32 bits", "the same")
    add(
        DAY / (c.row_s + c.call_s),
        "shard",
        "one process lists archives and matches rows: over a day",
        "parts of the source in projects of their own",
    )
    add(
        DAY / c.center_s,
        "features",
        "one process takes the mean off: over a day",
        "in code: center on the nodes; or features.center: false",
    )
    add(
        memory / c.variogram_bytes * a_training_photo,
        "variogram",
        f"coordinates, drives and grid outgrow {gb} in the main process",
        "a part of the photos (shard.filter.fraction): the error depends on the 20,000 pairs a lag, hardly on n",
    )
    add(
        math.sqrt(2.0**63) * a_training_photo,
        "variogram",
        "a pair's number has 63 bits",
        "a part of the photos",
    )
    add(
        breaks_at(lambda n: all_pairs(c, n, 64, node, gpu).seconds, DAY),
        ALL_PAIRS,
        "over a day on 64 GPUs: the main process hands out the calls one after another",
        "variogram.pairs: auto, which is stratified from 50,000 photos on; in code: larger parts",
    )
    add(
        memory / (2 * part_bytes(WIDTH)) * a_training_photo,
        ALL_PAIRS,
        f"features in float32, twice while they are joined, outgrow {gb} in the main process",
        "variogram.pairs: auto",
    )
    add(
        gpu.memory_bytes / 2 / (2 * WIDTH) * a_training_photo,
        "train",
        f"the features outgrow half of {gpu_gb}: the host gathers each step's rows",
        "a larger GPU, a narrower encoder, or a part of the photos",
    )
    add(
        memory / (2 * WIDTH) * a_training_photo,
        "train",
        f"the features outgrow {gb}: random rows come from disk one after another",
        "more memory; in code: shuffle the shards and read each in order",
    )
    add(
        breaks_at(lambda n: start_of_training_s(c, n, node), HOUR),
        "train",
        "every process checks and hashes all features before its first step: over an hour",
        "in code: digests that the feature shards carry",
    )
    add(
        memory / (c.split_bytes + 16) * a_training_photo,
        "train, evaluate",
        f"places as a table, and in training two orders of the rows, outgrow {gb} in each process",
        "a part of the photos",
    )
    add(
        memory / c.gallery_memory_bytes * a_training_photo,
        "evaluate",
        f"reading gallery.csv takes over {gb}",
        "a sample (evaluate.gallery_size) or thinned gallery",
    )
    add(
        breaks_at(lambda n: image_knn(c, n, node, gpu).seconds, DAY),
        "evaluate",
        "image k-NN, the widest exact search, takes over a day on a GPU",
        "a part of the photos; in code: an approximate index",
    )
    add(
        breaks_at(lambda n: image_knn(c, n, node, gpu).cpu_s / node.cores, DAY),
        "evaluate",
        f"without a GPU, image k-NN takes over a day on {node.cores} cores",
        "a GPU; fewer test photos",
    )
    add(
        DAY / (storage_bytes / node.network_bytes_s + c.row_s + c.call_s),
        "shard, features",
        "with cluster.storage the main process sends and gets each file in turn: over a day at its network's full rate",
        "a folder that all nodes share",
    )
    return sorted(found)
