"""What a run of more photos, or on more machines, takes: python -m tests.benchmarks.scaling writes reports/scaling.md.

It measures on this machine for about twenty minutes, and computes the rest. --kept takes the figures that the last run
left in data/scaling.json: what is missing there is measured, and the page is written anew.
"""

import json
import os
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import typer

from stages.shards import write_json, written_whole
from tests.benchmarks.scaling import measure, workers
from tests.benchmarks.scaling.model import BATCH, QUEUE, WIDTH, Costs
from tests.benchmarks.scaling.page import page

PAGE, KEPT = Path("reports/scaling.md"), Path("data/scaling.json")

Figures = dict[str, list]  # of a kind: pairs of a size, which is a list of numbers, and what was measured there


def measurements(folder: Path) -> dict[str, tuple[Callable, list[tuple]]]:
    """A function of each kind, and the sizes to call it with: the first two are fitted, later ones check the fit."""
    watched, inside = measure.watched, (folder,)
    return {
        "shard": (lambda n: measure.shard_costs(n, folder), [(1000,), (3000,), (2000,)]),
        "rows": (lambda n: watched(measure.shard_rows, n, *inside), [(1_000_000,), (3_000_000,), (2_000_000,)]),
        "encoder": (lambda: watched(measure.encoder_costs), [()]),
        "center": (lambda: watched(measure.center_costs, *inside), [()]),
        "pairs": (
            lambda n, d: watched(measure.pair_costs, n, d),
            [(20_000, WIDTH), (20_000, 256), (40_000, WIDTH), (10_000, WIDTH), (20_000, 512)],
        ),
        "call": (lambda: measure.alone(workers.call_costs), [()]),
        "variogram": (lambda n: measure.variogram_costs(n, *inside), [(500_000,), (2_000_000,), (1_000_000,)]),
        "split": (lambda n: measure.split_costs(n, WIDTH, *inside), [(100_000,), (400_000,), (200_000,)]),
        "step": (lambda b, q: watched(measure.step_costs, b, q), [(BATCH, QUEUE), (128, 2048), (256, 1024)]),
        "gather": (lambda n: watched(measure.gather_costs, n), [(100_000_000,)]),
        "retrieval": (lambda: watched(measure.retrieval_costs), [()]),
        "gallery": (lambda n: watched(measure.gallery_costs, n, *inside), [(1_000_000,), (3_000_000,), (2_000_000,)]),
        "nearest": (lambda: watched(measure.nearest_km), [()]),
    }


def fitted(figures: Figures) -> Costs:
    """The costs of the first two sizes of each kind: lines through both."""

    def values(kind: str, key: str) -> list[float]:
        return [found[key] for _, found in figures[kind]]

    def slope(kind: str, key: str) -> float:
        (low, *_), (high, *_) = (size for size, _ in figures[kind][:2])
        first, second = values(kind, key)[:2]
        return (second - first) / (high - low)

    def large(kind: str, key: str) -> float:
        return figures[kind][1 if len(figures[kind]) > 1 else 0][1][key]

    def intercept(kind: str, key: str) -> float:
        (first, *_), found = figures[kind][0]
        return found[key] - first * slope(kind, key)

    wide, narrow = values("pairs", "seconds")[:2]
    pair_width_s = (wide - narrow) / (WIDTH - 256)
    # A step's seconds are linear in its places b + q and its pairs b (b + q).
    (big_s, small_s), (big, small) = values("step", "seconds")[:2], (size for size, _ in figures["step"][:2])
    per_place = [s / sum(size) for s, size in ((big_s, big), (small_s, small))]
    step_pair_s = max(0.0, (per_place[0] - per_place[1]) / (big[0] - small[0]))
    search_width_s = (large("retrieval", "search_512_s") - large("retrieval", "search_256_s")) / 256
    return Costs(
        shard_s=slope("shard", "seconds"),
        shard_process_bytes=sum(large("shard", key) for key in ("base_bytes", "memory_bytes")),
        **{key: large("shard", key) for key in ("archive_bytes", "shard_bytes")},
        **{key: large("rows", key) for key in ("row_s", "call_s", "call_bytes", "csv_bytes")},
        row_bytes=slope("rows", "memory_bytes"),
        **{key: large("encoder", key) for key in ("decode_s", "encode_s", "encode_flop")},
        encoder_bytes=large("encoder", "memory_bytes"),
        **{key: large("center", key) for key in ("center_s", "feature_bytes")},
        variogram_s=slope("variogram", "seconds"),
        variogram_start_s=intercept("variogram", "seconds"),
        variogram_bytes=slope("variogram", "memory_bytes"),
        pair_s=wide - WIDTH * pair_width_s,
        pair_width_s=pair_width_s,
        pair_call_s=large("call", "thread_s"),
        split_s=slope("split", "seconds"),
        split_bytes=slope("split", "memory_bytes"),
        step_place_s=per_place[0] - big[0] * step_pair_s,
        step_pair_s=step_pair_s,
        step_flop=figures["step"][0][1]["flop"],
        weights=figures["step"][0][1]["weights"],
        gather_s=large("gather", "seconds") / (BATCH + QUEUE),
        **{key: large("retrieval", key) for key in ("place_s", "place_flop")},
        search_s=large("retrieval", "search_512_s") - 512 * search_width_s,
        search_width_s=search_width_s,
        **{key: large("gallery", key) for key in ("gallery_bytes", "gallery_s")},
        gallery_memory_bytes=slope("gallery", "memory_bytes"),
    )


def checks(figures: Figures, c: Costs) -> list[tuple[str, float, float, str]]:
    """(what, measured, by the model, unit) at sizes that no fit has seen."""
    found = []

    def line(kind: str, key: str, what: str, unit: str, scale: float) -> None:
        ((low,), a), ((high,), b), ((n,), its) = ((size, found[key]) for size, found in figures[kind][:3])
        found.append((what.format(f"{n:,}"), its * scale, (a + (b - a) / (high - low) * (n - low)) * scale, unit))

    line("shard", "seconds", "sharding {} photos", "s", 1)
    line("rows", "memory_bytes", "shard, memory for {} rows", "MB", 1e-6)
    for (n, d), its in figures["pairs"][2:]:
        by_model = c.pair_s + d * c.pair_width_s
        found.append((f"all pairs of {n:,} photos, d = {d}", 1e9 * its["seconds"], 1e9 * by_model, "ns a pair"))
    line("variogram", "seconds", "stratified, {} photos", "s", 1)
    line("variogram", "memory_bytes", "stratified, memory for {} photos", "MB", 1e-6)
    line("split", "seconds", "training's start, {} photos", "s", 1)
    line("split", "memory_bytes", "training's start, memory for {} photos", "MB", 1e-6)
    for (b, q), its in figures["step"][2:]:
        by_model = (b + q) * (c.step_place_s + b * c.step_pair_s)
        found.append((f"a training step, batch {b}, queue {q}", its["seconds"], by_model, "s"))
    line("gallery", "memory_bytes", "gallery.csv, memory for {} places", "MB", 1e-6)
    return found


def machine() -> str:
    """This machine, its load and the versions that matter, in a sentence."""
    cpu = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    names = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "polars", "pyarrow", "ray"))
    cores, gb = len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    load = f"load {os.getloadavg()[1]:.1f} before"
    return f"{cpu}, {cores} cores ({load}), {gb:.0f} GB, Linux, Python {platform.python_version()}, {names}"


def main(kept: bool = False) -> None:
    """Measure, compute and write the page."""
    figures = json.loads(KEPT.read_text()) if kept and KEPT.exists() else {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        for kind, (function, sizes) in measurements(Path(folder)).items():
            if kind not in figures:
                figures[kind] = [(size, function(*size)) for size in sizes]
                write_json(KEPT, figures)
        rounds = figures.setdefault("workers", {})
        turns = [(number, name) for number in range(workers.N_ROUNDS) for name in workers.machines()]
        missing = [name for number, name in turns if len(rounds.get(name, [])) <= number]
        made = workers.projects(Path(folder)) if missing else {}
        for name in missing:  # they take turns: a busy machine is busy for all
            rounds.setdefault(name, []).append(workers.measure(name, made))
            write_json(KEPT, figures)
    figures = json.loads(KEPT.read_text())
    costs = fitted(figures)
    with written_whole(PAGE) as temporary:
        temporary.write_text(page(figures, costs, checks(figures, costs)))


if __name__ == "__main__":
    typer.run(main)
