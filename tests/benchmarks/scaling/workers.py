"""The heavy stages on one and two cores of this machine, and on Ray clusters of 1, 2 and 4 nodes with a core each."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from ray.cluster_utils import Cluster

import stages.cluster
from stages import params
from stages.geo import unit_vectors
from stages.variogram import exhaustive
from stages.variogram.empirical import lag_edges_km
from tests.benchmarks.scaling.measure import quietly, towns
from tests.benchmarks.scaling.model import WIDTH
from tests.benchmarks.source import change_params, jpegs, run_stage, write_features, write_params, write_source
from tests.benchmarks.variogram import unit_noise

STAGES = {"shard": "data/mirror/shards", "features": "data/mirror/features", "variogram": "reports"}
N_ARCHIVES, N_PAIRED = 14, 65_536  # photos whose pairs are binned
SIZES = {"whole": (300, N_PAIRED), "small": (5, 200)}  # photos an archive, photos whose pairs are binned
N_ROUNDS = 2
SMALL_PART = 64  # photos: a call with so few is nothing to a node


def projects(folder: Path) -> dict[str, dict[str, Path]]:
    """For each size the projects of the stages: one with archives, and one with the features of random photos."""
    made = {}
    for size, (n_each, n_paired) in SIZES.items():
        archives = {f"train/{k:02}": np.arange(n_each) + 10**6 * (k + 1) for k in range(N_ARCHIVES)}
        archives["test/00"] = np.arange(n_each)
        write_source(folder / size / "source", archives, jpegs(n_each, (640, 480)))
        photos, paired = folder / size / "photos", folder / size / "paired"
        for project in (photos, paired):
            write_params(project, "mirror", url=str(folder / size / "source"))
        run_stage("download", photos)
        write_features(paired / "data/mirror/features/train/00000.arrow", *towns(n_paired), WIDTH)
        made[size] = {"shard": photos, "features": photos, "variogram": paired}
    return made


@contextlib.contextmanager
def cores(n: int) -> Iterator[None]:
    """Processes started in the block use n cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:n]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def cluster(n_nodes: int) -> Iterator[str]:
    """Address of a Ray cluster with a head that does no work and nodes of one core."""
    its = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 2**30})
    try:
        for _ in range(n_nodes):
            its.add_node(num_cpus=1, object_store_memory=2**30)
        yield its.address
    finally:
        its.shutdown()


def thread_seconds() -> dict[str, float]:
    """Seconds of a core that each thread of this process has had."""
    found = {}
    for path in Path("/proc/self/task").glob("*/stat"):
        user, system = path.read_text().rpartition(")")[2].split()[11:13]
        found[path.parent.name] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return found


def call_costs(n_parts: int = 64) -> dict[str, float]:
    """Seconds that a call of all pairs takes in the main process, in its busiest thread and in all, on two nodes."""
    n, edges_km = SMALL_PART * n_parts, lag_edges_km(0.1, 40)
    photos = unit_vectors(*towns(n)), unit_noise(n, 16), np.arange(n), np.zeros(n, np.int64)
    with (
        quietly(),
        mock.patch.object(exhaustive, "PART", SMALL_PART),
        cluster(2) as address,
        stages.cluster.workers(params.Cluster(address=address, storage=None)) as machine,
    ):
        exhaustive.sum_all_pairs(*(of_all[: 10 * SMALL_PART] for of_all in photos), edges_km, machine=machine)  # start
        before = thread_seconds()
        exhaustive.sum_all_pairs(*photos, edges_km, machine=machine)
        took = [seconds - before.get(thread, 0.0) for thread, seconds in thread_seconds().items()]
    n_calls = n_parts * (n_parts + 1) / 2
    return {"thread_s": max(took) / n_calls, "process_s": sum(took) / n_calls}


def machines() -> dict[str, tuple]:
    """By name, a context in which a stage is started; it gives the address of a cluster, or None."""
    n_cores = len(os.sched_getaffinity(0))
    local = {f"this machine, {n} core{'s' * (n > 1)}": (cores, n) for n in range(1, min(n_cores, 2) + 1)}
    return local | {f"cluster, {n} worker{'s' * (n > 1)}": (cluster, n) for n in (1, 2, 4)}


def measure(name: str, made: dict[str, dict[str, Path]]) -> dict[str, dict[str, float]]:
    """Seconds of each stage of the projects (see projects) on a machine, by size (whole, small)."""
    found = {stage: {} for stage in STAGES}
    context, n = machines()[name]
    with context(n) as address:
        for size, its_projects in made.items():
            for stage, project in its_projects.items():
                # All pairs, however many.
                change_params(project, cluster={"address": address}, variogram={"pairs": "exhaustive"})
                shutil.rmtree(project / STAGES[stage], ignore_errors=True)
                found[stage][size] = run_stage(stage, project)
    return found


def least(rounds: dict[str, list[dict]]) -> dict[str, dict[str, dict[str, float]]]:
    """By stage, machine and size the least seconds of some rounds on each machine."""
    return {
        stage: {
            name: {size: min(its[stage][size] for its in found) for size in SIZES} for name, found in rounds.items()
        }
        for stage in STAGES
    }
