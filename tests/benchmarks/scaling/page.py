"""The page of tests.benchmarks.scaling: its tables, and the text of page.md.j2 around them."""

import math
from collections.abc import Iterable
from pathlib import Path

import jinja2

from stages.cluster.ray_cluster import CALLS_AHEAD
from stages.variogram.exhaustive import PART
from tests.benchmarks.scaling import model
from tests.benchmarks.scaling.limits import limits
from tests.benchmarks.scaling.model import (
    ALL_PAIRS,
    BATCH,
    EMBEDDING,
    PHOTOS_AN_ARCHIVE,
    QUEUE,
    WIDTH,
    Costs,
    Gpu,
    Need,
    Node,
)
from tests.benchmarks.scaling.workers import N_ARCHIVES, SIZES, SMALL_PART, least

N_PHOTOS, NODES = (5_000_000, 100_000_000, 2_000_000_000), (1, 8, 64)
LAND_KM2 = 134e6  # without Antarctica
CODE_BYTES, PROBES = 72, 128  # of an IVF-PQ index: 64 bytes of code and an id; lists that a query looks into


def table(columns: Iterable[str], rows: Iterable[Iterable[object]], align: str = "") -> str:
    """A Markdown table; align: l or r for each column, the first left and the others right if not given."""
    columns = list(columns)
    lines = [columns, [{"l": ":--", "r": "--:"}[side] for side in align or "l" + "r" * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def digits(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.2g}"


def timed(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, size in (("years", 31_557_600), ("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{digits(seconds / size)} {unit}"
    return f"{digits(seconds)} s"


def sized(n_bytes: float) -> str:
    """Bytes in the unit that suits them; - for none."""
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{digits(n_bytes / size)} {unit}"
    return f"{digits(n_bytes)} B" if n_bytes else "-"


def counted(n: float) -> str:
    """A number of photos in millions or billions."""
    return f"{digits(n / 1e9)} billion" if n >= 1e9 else f"{digits(n / 1e6)} million"


def costs_table(c: Costs) -> str:
    """Seconds of a core."""
    pair_s, search_s = c.pair_s + WIDTH * c.pair_width_s, c.search_s + EMBEDDING * c.search_width_s
    step_s = (BATCH + QUEUE) * (c.step_place_s + BATCH * c.step_pair_s)
    main, node, process, one = "main process", "nodes", "each process", "one process"
    rows = [
        ("shard: unpack, check, shrink, write", f"{1e3 * c.shard_s:.1f} ms", "photo", node),
        ("shard: read rows, find archives, draw validation", f"{1e6 * c.row_s:.1f} µs", "row", main),
        ("shard: list the archive, match its rows, send them", f"{1e6 * c.call_s:.0f} µs", "photo", main),
        ("features: decode, crop, scale", f"{1e3 * c.decode_s:.1f} ms", "photo", node),
        (f"features: ViT-L-14 ({c.encode_flop / 1e9:.0f} GFLOP, counted)", f"{c.encode_s:.2g} s", "photo", node),
        ("features: take the mean off", f"{1e6 * c.center_s:.0f} µs", "photo", main),
        ("variogram: all pairs", f"{1e9 * pair_s:.1f} ns", "pair", node),
        ("variogram: all pairs on a cluster, hand out, get, add", f"{1e3 * c.pair_call_s:.2f} ms", "call", main),
        ("variogram: stratified, draws, fit and figures", f"{c.variogram_start_s:.0f} s", "run", main),
        ("variogram: stratified, grids of places", f"{1e6 * c.variogram_s:.1f} µs", "photo", main),
        ("train: check and hash the features", f"{1e6 * c.split_s:.1f} µs", "photo", process),
        (f"train: {BATCH} + {QUEUE} places ({c.step_flop / 1e9:.0f} GFLOP, counted)", timed(step_s), "step", process),
        ("train: gather its features from memory", f"{1e3 * c.gather_s * (BATCH + QUEUE):.0f} ms", "step", process),
        (f"evaluate: embed ({c.place_flop / 1e6:.0f} MFLOP, counted)", f"{1e6 * c.place_s:.0f} µs", "place", one),
        (f"evaluate: search, width {EMBEDDING}", f"{1e9 * search_s:.1f} ns", "photo and place", one),
    ]
    return table(("work of a core", "time", "for each", "in"), rows, "lrll")


def bytes_table(c: Costs) -> str:
    """Bytes a photo."""
    rows = [
        ("archive, a drawn photo of 640 x 480", c.archive_bytes, "OSV5M's photos have 47,000"),
        ("CSV row", c.csv_bytes, ""),
        ("shard, short side 256 px", c.shard_bytes, ""),
        ("features", 2 * c.feature_bytes, f"as they are and less the mean; {2 * WIDTH} of each are the feature"),
        ("gallery.csv", c.gallery_bytes, f"a place; the model beside it {sized(4 * c.weights)}"),
        ("a sharding call", c.call_bytes, "sent to a node"),
        ("a part of all pairs", model.part_bytes(WIDTH), "its vector, drive and block, and its feature in float32"),
        ("memory: shard, main process", c.row_bytes, "ids' hashes, cells, drives, and their graph"),
        ("memory: variogram, main process", c.variogram_bytes, "places as a table, drives' names, grids"),
        ("memory: each training process", c.split_bytes + 16, "places as a table, two orders; features are mapped"),
        ("memory: evaluate", c.gallery_memory_bytes, "gallery.csv as text; embeddings are made and let go"),
    ]
    return table(("a photo's", "bytes", "note"), [(what, f"{n:,.0f}", note) for what, n, note in rows], "lrl")


def workers_tables(found: dict) -> tuple[str, str]:
    """The stages on one to four workers as a table, and a cluster's overhead as a sentence."""
    rows, overheads = [], []
    for stage, machines in found.items():
        work = {name: its["whole"] - its["small"] for name, its in machines.items()}
        first, one = next(iter(machines)), "cluster, 1 worker"
        for name, its in machines.items():
            times = (f"{seconds:.1f}" for seconds in (its["whole"], its["small"], work[name]))
            rows.append((f"{stage}: {name}", *times, f"{work[first] / work[name]:.2f}"))
        whole = machines[one]["whole"] / machines[first]["whole"] - 1
        overheads.append(f"{stage} {whole:+.0%}, and without the constant part {work[one] / work[first] - 1:+.0%}")
    columns = ("stage and machine", "seconds", "constant part", "the rest", "its speed-up")
    return table(columns, rows), f"A cluster with one worker against one core: {'; '.join(overheads)}."


def example(c: Costs, n: float, node: Node, gpu: Gpu) -> tuple[str, str, str]:
    """A title, the stages of a run of n photos as a table, and what lies on disk."""

    def row(one: Need, some: Need, many: Need) -> tuple:
        times = (timed(need.seconds) for need in (one, some, many))
        hours = (digits(value / 3600) if value else "-" for value in (some.gpu_s, some.core_s, some.cpu_s))
        memory = (_bold_above(value, node.memory_bytes) for value in (many.driver_bytes, many.node_bytes))
        sent = sized(many.driver_sent_bytes), sized(many.node_sent_bytes)
        stored = f"{sized(many.storage_bytes)}, {timed(many.storage_bytes / node.network_bytes_s)}"
        return one.stage, *times, *hours, *memory, *sent, stored if many.storage_bytes else "-"

    stages = zip(*(model.needs(c, n, nodes, node, gpu) for nodes in NODES), strict=True)
    columns = ("stage", *(f"{nodes} node{'s' * (nodes > 1)}" for nodes in NODES), "GPU h", "core h beside")
    columns += ("core h alone", "memory, main process", "memory, a node", "network, main process", "network, a node")
    columns += ("more with cluster.storage",)
    disk = {"archives": c.archive_bytes, "CSV": c.csv_bytes, "shards": c.shard_bytes, "features": 2 * c.feature_bytes}
    disk["gallery.csv"] = c.gallery_bytes
    sizes = ", ".join(f"{name} {sized(n * size)}" for name, size in disk.items())
    return counted(n), table(columns, [row(*three) for three in stages]), sizes


def _bold_above(n_bytes: float, limit: float) -> str:
    return f"**{sized(n_bytes)}**" if n_bytes > limit else sized(n_bytes)


def in_short(c: Costs, n: float, node: Node, gpu: Gpu) -> str:
    """The time of a run of n photos on each number of nodes, whether it fits them, and the limits that it passes."""
    runs = [[need for need in model.needs(c, n, nodes, node, gpu) if need.stage != ALL_PAIRS] for nodes in NODES]
    times = ", ".join(timed(sum(need.seconds for need in run)) for run in runs)
    slowest = max(runs[-1], key=lambda need: need.seconds)
    text = f"{times} on {', '.join(map(str, NODES))} nodes; on {NODES[-1]}, {slowest.stage} takes longest"
    text += f" ({timed(slowest.seconds)}). "
    too_large = [need.stage for need in runs[-1] if max(need.driver_bytes, need.node_bytes) > node.memory_bytes]
    if too_large:
        text += f"**It does not run as it is**: a node has too little memory for {'; '.join(too_large)}. "
    passed = [limit for limit in limits(c, node, gpu) if limit[0] <= n and limit[1] != ALL_PAIRS]
    first = "; ".join(f"{counted(at)}, {stage}: {what}" for at, stage, what, _ in passed[:2])
    return text + (f"Limits below that it passes: {len(passed)}, first {first}." if passed else "Nothing breaks.")


def limits_table(c: Costs, node: Node, gpu: Gpu) -> str:
    """All limits."""
    rows = ((counted(at), *rest) for at, *rest in limits(c, node, gpu))
    return table(("from, photos", "stage", "what breaks", "what to do then"), rows, "rlll")


def nearest_table(nearest: dict[str, float]) -> str:
    """Median distance to the nearest place of samples of the world's gallery."""
    errors = {int(g): km for g, km in nearest.items() if g.isdigit()}
    whole = max(errors)
    rows = [(f"{g:,}", f"1/{whole // g}", f"{km:.2f}", f"{km / errors[whole]:.1f}") for g, km in errors.items()]
    return table(("places", "share", "median km to the nearest", "times the whole's"), rows)


def gallery_table() -> str:
    """Best possible answers of evenly spread places, and an index's bytes."""
    rows = []
    for n in N_PHOTOS:
        g = model.n_training(n)
        best = (1000 * math.sqrt(math.log(2) * LAND_KM2 / (math.pi * places)) for places in (g, 1e6, 1e5))
        read = PROBES / (4 * math.sqrt(g))
        index = sized(4 * EMBEDDING * g), sized(CODE_BYTES * g), f"{read:.2%}"
        rows.append((counted(n), *(f"{metres:,.0f} m" for metres in best), *index))
    columns = ("photos", "all places", "1 million", "100,000", "embeddings", "IVF-PQ codes", "share read a query")
    return table(columns, rows)


def page(figures: dict, c: Costs, checks: list[tuple[str, float, float, str]]) -> str:
    """The whole page."""
    node, gpu = Node(), Gpu()
    workers_table, overhead = workers_tables(least(figures["workers"]))
    rows = [(what, f"{a:.3g} {unit}", f"{b:.3g} {unit}", f"{b / a - 1:+.0%}") for what, a, b, unit in checks]
    values = {
        "machine": figures["machine"],
        "costs_table": costs_table(c),
        "bytes_table": bytes_table(c),
        "checks_table": table(("", "measured", "by the line", "error"), rows),
        "gpu_photos_s": gpu.bf16_flop_s * gpu.encoder_share / c.encode_flop,
        "n_shard": f"{(N_ARCHIVES + 1) * SIZES['whole'][0]:,}",
        "n_paired": f"{SIZES['whole'][1]:,}",
        "workers_table": workers_table,
        "overhead": overhead,
        "fed": digits(c.shard_s / c.call_s),
        "small_part": SMALL_PART,
        "call_ms": f"{1e3 * c.pair_call_s:.2g}",
        "process_ms": f"{1e3 * figures['call'][0][1]['process_s']:.2g}",
        "gpu_call_ms": digits(1e3 * PART**2 * model.gpu_pair_s(gpu)),
        "gpus_fed": digits(PART**2 * model.gpu_pair_s(gpu) / c.pair_call_s),
        "part_mb": digits(PART * model.part_bytes(WIDTH) / 1e6),
        "cpu_node": sized(model.encoding_bytes(c, node, node.cores)),
        "examples": [example(c, n, node, gpu) for n in N_PHOTOS],
        "in_short": [(counted(n), in_short(c, n, node, gpu)) for n in N_PHOTOS],
        "limits_table": limits_table(c, node, gpu),
        "ahead": sized(2 * CALLS_AHEAD * NODES[-1] * node.cores * PHOTOS_AN_ARCHIVE * c.call_bytes),
        "nearest_table": nearest_table(figures["nearest"][0][1]),
        "gallery_table": gallery_table(),
    }
    text = Path(__file__).with_name("page.md.j2").read_text()
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(text)
    return template.render(vars(model) | globals() | values, node=node, gpu=gpu) + "\n"
