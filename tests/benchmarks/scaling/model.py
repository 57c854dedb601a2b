"""From what a photo, a pair, a step and a place cost to a run's time, memory and traffic, and to what breaks first.

Seconds are of one core of the machine that measured, or of the named GPU; n is the number of all photos.
"""

import math
from dataclasses import dataclass

from stages.cluster.ray_cluster import CALLS_AHEAD
from stages.variogram.exhaustive import PART

PHOTOS_AN_ARCHIVE = 52_000  # OSV5M's
N_TEST, VALIDATION_SHARE = 210_000, 0.1  # OSV5M's test photos; more would only narrow intervals that are narrow
WIDTH, EMBEDDING, BATCH, QUEUE = 768, 512, 512, 4096  # ViT-L-14's, GeoCLIP's; the batch is that of one GPU
# What a GPU reads and writes, counted in stages/variogram/gpu.py and stages/evaluate/retrieval.py.
BYTES_A_PAIR, BYTES_A_SIMILARITY = 400, 36
ALL_PAIRS = "variogram, all pairs"  # what it would be; from 50,000 photos on it is stratified
PAIRS = 40 * 20_000  # of the stratified semivariogram
DAY, HOUR = 86_400.0, 3600.0


@dataclass(frozen=True)
class Gpu:
    """Data-sheet rates (dense) and the shares of them that are assumed to be reached."""

    name: str = "NVIDIA H100 SXM"
    bf16_flop_s: float = 989e12
    fp32_flop_s: float = 67e12
    bytes_s: float = 3.35e12
    memory_bytes: float = 80e9
    encoder_share: float = 0.4  # of bf16, for ViT-L-14 in batches of 64
    training_share: float = 0.2  # of bf16, for products as small as GeoCLIP's
    fp32_share: float = 0.6  # of fp32 and of the memory's rate, for searching and binning
    least_step_s: float = 0.01  # of training: launches and the host's work outweigh GeoCLIP's small products


@dataclass(frozen=True)
class Node:
    """A machine of the example clusters."""

    cores: int = 16
    gpus: int = 1
    memory_bytes: float = 128e9
    network_bytes_s: float = 1.25e9  # 10 Gbit/s
    fault_s: float = 1e-4  # to read a row of a mapped file that is not in memory, from a local SSD


@dataclass(frozen=True)
class Costs:
    """Measured figures: seconds of a core, bytes and operations; of a photo where nothing else is said."""

    shard_s: float
    shard_process_bytes: float  # of one process at work
    row_s: float  # of the CSV, in the main process
    row_bytes: float
    call_s: float  # to list, match and send, in the main process
    call_bytes: float
    csv_bytes: float
    archive_bytes: float
    shard_bytes: float
    decode_s: float
    encode_s: float
    encode_flop: float
    encoder_bytes: float
    center_s: float
    feature_bytes: float
    variogram_start_s: float
    variogram_s: float
    variogram_bytes: float
    pair_s: float  # all pairs: of a pair
    pair_width_s: float  # and of a pair and each of the feature's values
    split_s: float
    split_bytes: float
    step_place_s: float  # of a place of the batch and the queue
    step_pair_s: float  # of a photo of the batch and a place
    step_flop: float  # of a step of BATCH and QUEUE
    weights: float
    gather_s: float  # of a row, among 100 million photos
    place_s: float
    place_flop: float
    search_s: float  # of a query and a place
    search_width_s: float  # and each of the embedding's values
    gallery_bytes: float  # of a place in the CSV
    gallery_s: float
    gallery_memory_bytes: float


@dataclass(frozen=True)
class Need:
    """What a stage of a run needs; traffic: through the machine that the stage is started on."""

    stage: str
    seconds: float
    gpu_s: float
    core_s: float  # beside the GPUs
    cpu_s: float  # of cores, without a GPU
    driver_bytes: float
    node_bytes: float
    traffic_bytes: float  # where all share a folder
    storage_bytes: float = 0.0  # and more of it with cluster.storage


def n_training(n: float) -> float:
    """Training photos of all n."""
    return (n - N_TEST) * (1 - VALIDATION_SHARE)


def n_pairs(n: float) -> float:
    """Pairs of n photos."""
    return n * (n - 1) / 2


def n_calls(n: float) -> float:
    """Calls of the exhaustive semivariogram: pairs of parts, each part with itself too."""
    parts = math.ceil(n / PART)
    return parts * (parts + 1) / 2


def part_bytes(width: int) -> int:
    """Bytes that a photo has in a part: its vector, drive and block, and its feature in float32."""
    return 40 + 4 * width


def shard(c: Costs, n: float, nodes: int, node: Node) -> Need:
    """An archive is a call of one core; rows and directories are the main process's alone."""
    at_once, archives = nodes * node.cores, math.ceil(n / PHOTOS_AN_ARCHIVE)
    calls_s = max(n, PHOTOS_AN_ARCHIVE * at_once * (nodes > 1)) * c.shard_s / at_once
    ahead = min(archives, CALLS_AHEAD * at_once) if nodes > 1 else 1
    core_s = n * c.shard_s  # the main process's work is part of it
    return Need(
        "shard",
        n * c.row_s + max(calls_s, n * c.call_s),
        0,
        core_s,
        core_s,
        n * c.row_bytes + 2 * ahead * PHOTOS_AN_ARCHIVE * c.call_bytes,  # as a table, and as what is sent
        node.cores * c.shard_process_bytes,
        n * c.call_bytes * (nodes > 1),
        n * (c.archive_bytes + c.shard_bytes) * (nodes > 1),
    )


def features(c: Costs, n: float, nodes: int, node: Node, gpu: Gpu) -> Need:
    """A shard is a call of one GPU, which the cores feed; the main process takes the mean off, shard by shard."""
    decode_s, encode_s = c.decode_s * node.gpus / node.cores, c.encode_flop / (gpu.bf16_flop_s * gpu.encoder_share)
    photo_s, gpus = max(decode_s, encode_s), nodes * node.gpus
    gpu_s = max(n, PHOTOS_AN_ARCHIVE * gpus) * photo_s
    moved = 3 * n * c.feature_bytes  # read for the mean, read and written to take it off
    tensors_bytes = 2 * node.cores * 64 * 3 * 224 * 224 * 4  # a batch at work and one that waits for each core
    return Need(
        "features",
        gpu_s / gpus + n * c.center_s + moved / node.network_bytes_s,
        n * photo_s,
        n * (c.decode_s + c.center_s),
        n * (c.decode_s + c.center_s + c.encode_s),
        c.encoder_bytes,
        node.gpus * c.encoder_bytes + tensors_bytes,
        moved,
        n * (c.shard_bytes + c.feature_bytes) * (nodes > 1),
    )


def variogram(c: Costs, n: float) -> Need:
    """Stratified pairs, drawn and summed by the main process alone."""
    n = n_training(n)
    seconds = c.variogram_start_s + n * c.variogram_s
    read_bytes = n * (c.feature_bytes - 2 * WIDTH) + 2 * PAIRS * 2 * WIDTH
    return Need("variogram, stratified", seconds, 0, seconds, seconds, n * c.variogram_bytes, 0, read_bytes)


def all_pairs(c: Costs, n: float, nodes: int, node: Node, gpu: Gpu) -> Need:
    """Every pair once: two parts of the photos are a call of one GPU."""
    n = n_training(n)
    flop_s, bytes_s = (rate * gpu.fp32_share for rate in (gpu.fp32_flop_s, gpu.bytes_s))
    gpu_s = n_pairs(n) * (2 * WIDTH / flop_s + BYTES_A_PAIR / bytes_s)
    part = PART * part_bytes(WIDTH)
    table, store = n / PART * part, 0.3 * node.memory_bytes  # Ray's store of a node, by default
    sent = (nodes * table if table < store else n_calls(n) * part) * (nodes > 1)
    return Need(
        ALL_PAIRS,
        max(gpu_s / (nodes * node.gpus), sent / (nodes * node.network_bytes_s)),
        gpu_s,
        0,
        n_pairs(n) * (c.pair_s + WIDTH * c.pair_width_s),
        2 * table,  # while its parts are joined; then one for Ray
        min(table, store),
        sent,
    )


def start_of_training_s(c: Costs, n: float, node: Node) -> float:
    """Every process checks and hashes all features before its first step."""
    return n_training(n) * max(c.split_s, c.feature_bytes * node.gpus / node.network_bytes_s)


def gather_s(c: Costs, n: float, rows: int, node: Node, gpu: Gpu) -> float:
    """Features of a step's rows: from the GPU where they fit half of it, from the host's memory, from disk."""
    table = n_training(n) * 2 * WIDTH
    if table < gpu.memory_bytes / 2:
        return 0.0
    on_disk = max(0.0, 1 - node.memory_bytes / table)
    return rows * (c.gather_s + on_disk * node.fault_s)


def train(c: Costs, n: float, nodes: int, node: Node, gpu: Gpu) -> Need:
    """An epoch of one loss; a batch of BATCH for each GPU, all of which see all features of the step."""
    gpus = nodes * node.gpus
    places = BATCH * gpus + QUEUE
    flop = c.step_flop * places / gpus / (BATCH + QUEUE)  # embedding the places is nearly all of it
    compute_s = max(gpu.least_step_s, flop / (gpu.bf16_flop_s * gpu.training_share))
    sent_bytes = 8 * (c.weights + EMBEDDING * places) * (nodes > 1)  # gradients and embeddings, float32, there and back
    step_s = compute_s + gather_s(c, n, places, node, gpu) + sent_bytes / node.network_bytes_s
    seconds = start_of_training_s(c, n, node) + n_training(n) / (BATCH * gpus) * step_s
    cpu_s = n_training(n) / BATCH * ((BATCH + QUEUE) * c.step_place_s + BATCH * (BATCH + QUEUE) * c.step_pair_s)
    process_bytes = n_training(n) * (c.split_bytes + 16)  # and two epochs' orders of the rows
    return Need("train, an epoch", seconds, seconds * gpus, 0, cpu_s, process_bytes, node.gpus * process_bytes, 0)


def search_s(n: float, gpu: Gpu) -> float:
    """Exact search on a GPU: product, and what the best and the softmax move."""
    flop_s, bytes_s = (rate * gpu.fp32_share for rate in (gpu.fp32_flop_s, gpu.bytes_s))
    return N_TEST * n_training(n) * (2 * EMBEDDING / flop_s + BYTES_A_SIMILARITY / bytes_s)


def evaluate(c: Costs, n: float, gpu: Gpu) -> Need:
    """Test photos among all training places, in one process with one GPU."""
    places = n_training(n)
    gpu_s = places * c.place_flop / (gpu.fp32_flop_s * gpu.fp32_share) + search_s(n, gpu)
    cpu_s = places * (c.gallery_s + c.place_s + N_TEST * (c.search_s + EMBEDDING * c.search_width_s))
    memory = places * c.gallery_memory_bytes
    read_s = places * c.gallery_s
    return Need("evaluate, exact", read_s + gpu_s, gpu_s, read_s, cpu_s, memory, 0, places * c.gallery_bytes)


def needs(c: Costs, n: float, nodes: int, node: Node, gpu: Gpu) -> list[Need]:
    """Of every stage."""
    return [
        shard(c, n, nodes, node),
        features(c, n, nodes, node, gpu),
        variogram(c, n),
        all_pairs(c, n, nodes, node, gpu),
        train(c, n, nodes, node, gpu),
        evaluate(c, n, gpu),
    ]
