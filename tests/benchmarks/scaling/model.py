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
BATCH_BYTES = 64 * 3 * 224 * 224 * 4  # of photos for the encoder, features.batch_size of them for each core
ALL_PAIRS = "variogram, all pairs"  # what it would be; from 50,000 photos on it is stratified
PAIRS = 40 * 20_000  # of the stratified semivariogram
STORE_SHARE = 0.3  # of a node's memory, for what Ray keeps of shared values; its default
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
    pair_call_s: float  # all pairs on a cluster: of a call, in the main process's busiest thread
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
    """What a stage of a run needs; sent: what a machine reads from the shared folder, writes there, gets or sends."""

    stage: str
    seconds: float
    gpu_s: float
    core_s: float  # beside the GPUs
    cpu_s: float  # of cores, without a GPU
    driver_bytes: float  # memory of the main process
    node_bytes: float  # and of a node
    driver_sent_bytes: float  # by the main process
    node_sent_bytes: float  # by a node
    storage_bytes: float = 0.0  # by the main process besides, with cluster.storage


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
    sent = n / nodes * (c.archive_bytes + c.shard_bytes)
    return Need(
        "shard",
        n * c.row_s + max(calls_s, n * c.call_s, sent / node.network_bytes_s),
        0,
        core_s,
        core_s,
        n * c.row_bytes + 2 * ahead * PHOTOS_AN_ARCHIVE * c.call_bytes,  # as a table, and as what is sent
        node.cores * c.shard_process_bytes,
        n * (c.csv_bytes + c.call_bytes * (nodes > 1)),
        sent,
        n * (c.archive_bytes + c.shard_bytes) * (nodes > 1),
    )


def encoding_bytes(c: Costs, node: Node, processes: int) -> float:
    """Memory of a node that embeds photos: a model in each process, one a GPU or without GPUs one a core."""
    return processes * c.encoder_bytes + 2 * node.cores * BATCH_BYTES  # a batch at work and one that waits


def features(c: Costs, n: float, nodes: int, node: Node, gpu: Gpu) -> Need:
    """A shard is a call of one GPU, which the cores feed; the main process takes the mean off, shard by shard."""
    decode_s, encode_s = c.decode_s * node.gpus / node.cores, c.encode_flop / (gpu.bf16_flop_s * gpu.encoder_share)
    photo_s, gpus = max(decode_s, encode_s), nodes * node.gpus
    gpu_s = max(n, PHOTOS_AN_ARCHIVE * gpus) * photo_s
    moved = 3 * n * c.feature_bytes  # read for the mean, read and written to take it off
    sent = n / nodes * (c.shard_bytes + c.feature_bytes)
    return Need(
        "features",
        max(gpu_s / gpus, sent / node.network_bytes_s) + n * c.center_s + moved / node.network_bytes_s,
        n * photo_s,
        n * (c.decode_s + c.center_s),
        n * (c.decode_s + c.center_s + c.encode_s),
        c.encoder_bytes,
        encoding_bytes(c, node, node.gpus),
        moved,
        sent,
        n * (c.shard_bytes + c.feature_bytes) * (nodes > 1),
    )


def variogram(c: Costs, n: float) -> Need:
    """Stratified pairs, drawn and summed by the main process alone."""
    n = n_training(n)
    seconds = c.variogram_start_s + n * c.variogram_s
    read_bytes = n * (c.feature_bytes - 2 * WIDTH) + 2 * PAIRS * 2 * WIDTH
    return Need("variogram, stratified", seconds, 0, seconds, seconds, n * c.variogram_bytes, 0, read_bytes, 0)


def fetched(n: float, nodes: int, node: Node) -> tuple[float, float]:
    """Bytes of parts of n photos that each node fetches for all pairs, and what the main machine sends of them all.

    Ray keeps a node's parts until others need their room. A node asks a machine that has the part in memory, any of
    them: the k-th node that wants it one of k. If none has it, the main machine reads it from its disk. Where all parts
    fit a node, four nodes of a Ray cluster were sent 257 MB, and this says 262; where not, 340 and 408. A simulation
    (tests/test_scaling.py) agrees within a tenth where they fit, elsewhere within a factor of two.
    """
    part = PART * part_bytes(WIDTH)
    table, store = n / PART * part, STORE_SHARE * node.memory_bytes
    held = min(1.0, store / table)  # share of the parts in a machine's memory
    again = (1 - held) * n_calls(n) / nodes * part  # a call's column; its row, which the calls before it had, is there
    first = table * (1 - held + held * sum(1 / k for k in range(1, nodes + 1)))
    is_main_asked = held / (1 + nodes * held) if nodes * held >= 1 else 1  # or the oldest part goes before its turn
    return held * table + again, first + nodes * again * is_main_asked


def gpu_pair_s(gpu: Gpu) -> float:
    """Seconds of a pair on a GPU: its product, and what binning it moves."""
    return (2 * WIDTH / gpu.fp32_flop_s + BYTES_A_PAIR / gpu.bytes_s) / gpu.fp32_share


def all_pairs(c: Costs, n: float, nodes: int, node: Node, gpu: Gpu) -> Need:
    """Every pair once: two parts of the photos are a call of one GPU, which the main process hands out."""
    n = n_training(n)
    gpu_s, read_bytes = n_pairs(n) * gpu_pair_s(gpu), n * 2 * WIDTH
    got, sent = fetched(n, nodes, node) if nodes > 1 else (0.0, 0.0)
    calls_s = n_calls(n) * c.pair_call_s * (nodes > 1)
    return Need(
        ALL_PAIRS,
        read_bytes / node.network_bytes_s
        + max(gpu_s / (nodes * node.gpus), calls_s, got / node.network_bytes_s, sent / node.network_bytes_s),
        gpu_s,
        0,
        n_pairs(n) * (c.pair_s + WIDTH * c.pair_width_s),
        2 * n * part_bytes(WIDTH),  # while its chunks are joined; then one for Ray
        min(n * part_bytes(WIDTH), STORE_SHARE * node.memory_bytes),
        read_bytes + sent,
        got,
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


def exchanged_bytes(c: Costs, gpus: int, places: int) -> float:
    """What a process sends in a step, on a ring: each value of the weights' gradients and the embeddings twice, less
    its own share, in float32.
    """
    return 2 * 4 * (1 - 1 / gpus) * (c.weights + EMBEDDING * places)


def train(c: Costs, n: float, nodes: int, node: Node, gpu: Gpu) -> Need:
    """An epoch of one loss; a batch of BATCH for each GPU, all of which see all features of the step."""
    gpus = nodes * node.gpus
    places, steps = BATCH * gpus + QUEUE, n_training(n) / (BATCH * gpus)
    flop = c.step_flop * places / gpus / (BATCH + QUEUE)  # embedding the places is nearly all of it
    compute_s = max(gpu.least_step_s, flop / (gpu.bf16_flop_s * gpu.training_share))
    sent = exchanged_bytes(c, gpus, places) * (nodes > 1)
    step_s = compute_s + gather_s(c, n, places, node, gpu) + sent / node.network_bytes_s
    seconds = start_of_training_s(c, n, node) + steps * step_s
    cpu_s = n_training(n) / BATCH * ((BATCH + QUEUE) * c.step_place_s + BATCH * (BATCH + QUEUE) * c.step_pair_s)
    process_bytes = n_training(n) * (c.split_bytes + 16)  # and two epochs' orders of the rows
    node_sent = n_training(n) * c.feature_bytes * node.gpus + steps * sent
    return Need(
        "train, an epoch", seconds, seconds * gpus, 0, cpu_s, process_bytes, node.gpus * process_bytes, 0, node_sent
    )


def search_s(n: float, width: int, gpu: Gpu) -> float:
    """Exact search of all test photos on a GPU: product, and what the best and the softmax move."""
    similarity_s = (2 * width / gpu.fp32_flop_s + BYTES_A_SIMILARITY / gpu.bytes_s) / gpu.fp32_share
    return N_TEST * n_training(n) * similarity_s


def evaluate(c: Costs, n: float, gpu: Gpu) -> Need:
    """Test photos among all training places, in one process with one GPU."""
    places = n_training(n)
    gpu_s = places * c.place_flop / (gpu.fp32_flop_s * gpu.fp32_share) + search_s(n, EMBEDDING, gpu)
    cpu_s = places * (c.gallery_s + c.place_s + N_TEST * (c.search_s + EMBEDDING * c.search_width_s))
    memory, read_s = places * c.gallery_memory_bytes, places * c.gallery_s
    return Need(
        "evaluate, a loss",
        read_s + gpu_s,
        gpu_s,
        read_s,
        cpu_s,
        memory,
        0,
        places * c.gallery_bytes + N_TEST * c.feature_bytes,
        0,
    )


def image_knn(c: Costs, n: float, node: Node, gpu: Gpu) -> Need:
    """The baseline: test photos among the features of all training photos, which are read once, chunk by chunk."""
    places = n_training(n)
    gpu_s, read_bytes = search_s(n, WIDTH, gpu), (places + N_TEST) * c.feature_bytes
    cpu_s = places * N_TEST * (c.search_s + WIDTH * c.search_width_s)
    memory = places * c.split_bytes  # places as a table, as in training
    seconds = read_bytes / node.network_bytes_s + gpu_s
    return Need("evaluate, image k-NN", seconds, gpu_s, 0, cpu_s, memory, 0, read_bytes, 0)


def needs(c: Costs, n: float, nodes: int, node: Node, gpu: Gpu) -> list[Need]:
    """Of every stage."""
    return [
        shard(c, n, nodes, node),
        features(c, n, nodes, node, gpu),
        variogram(c, n),
        all_pairs(c, n, nodes, node, gpu),
        train(c, n, nodes, node, gpu),
        evaluate(c, n, gpu),
        image_knn(c, n, node, gpu),
    ]
