"""What the stages stand on a Ray cluster: python -m tests.benchmarks.cluster.

Shard, features and the semivariogram run on three nodes, processes of this machine, one of which is lost at a random
moment of the run; what they write is compared, byte by byte, with what a run without a cluster wrote. With --storage,
files go to the nodes and back through a folder that stands for a bucket.
"""

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import typer
from ray.cluster_utils import Cluster

from stages.cli import show_table
from tests.benchmarks.source import (
    change_params,
    finish,
    hashes,
    jpegs,
    run_stage,
    start_stage,
    write_features,
    write_params,
    write_source,
)

OUTPUTS = {"shard": "data/mirror/shards", "features": "data/mirror/features", "variogram": "data/variogram"}
N_NODES = 3


def lose_nodes(stage: str, project: Path, cluster: Cluster, nodes: list, *, moments: int, seed: int) -> tuple:
    """Run a stage from nothing on a cluster, whole, then again and again while a node is lost.

    Returns the whole run's seconds, the number of nodes lost, of runs with the same bytes, and a run's mean seconds.
    """
    out, rng = project / OUTPUTS[stage], random.Random(seed)
    expected, n_same, seconds = hashes(out), 0, []
    shutil.rmtree(out)
    whole_s = run_stage(stage, project)
    n_same += hashes(out) == expected
    for moment in range(moments):
        shutil.rmtree(out)
        start, process = time.perf_counter(), start_stage(stage, project)
        time.sleep((moment + rng.random()) / moments * whole_s)
        victim = nodes.pop(rng.randrange(len(nodes)))
        cluster.remove_node(victim, allow_graceful=False)
        finish(stage, project, process)
        seconds.append(time.perf_counter() - start)
        n_same += hashes(out) == expected
        nodes.append(cluster.add_node(num_cpus=1))
    return f"{whole_s:.1f}", moments, f"{n_same} of {moments + 1}", f"{np.mean(seconds):.1f}"


def main(moments: int = 5, seed: int = 0, storage: bool = False) -> None:
    """Lose a node at random moments of each stage; what it writes must be the bytes of a run on this machine."""
    with tempfile.TemporaryDirectory() as name:
        project, pairs = Path(name, "photos"), Path(name, "pairs")
        archives = {f"train/{k:02}": np.arange(150) + 1000 * k for k in range(12)} | {"test/00": np.arange(60) + 10**6}
        write_source(Path(name, "source"), archives, jpegs(60, (640, 480)))
        for folder in (project, pairs):
            write_params(folder, "mirror", url=str(Path(name, "source")))
        run_stage("download", project)
        rng = np.random.default_rng(0)
        everywhere = rng.uniform(-60, 70, 40_000), rng.uniform(-180, 180, 40_000)
        write_features(pairs / "data/mirror/features/train/00000.arrow", *everywhere, 256)
        projects = {"shard": project, "features": project, "variogram": pairs}
        here_s = {stage: run_stage(stage, folder) for stage, folder in projects.items()}

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        nodes = [cluster.add_node(num_cpus=1) for _ in range(N_NODES)]
        bucket = Path(name, "bucket").as_uri() if storage else None
        for folder in (project, pairs):
            change_params(folder, cluster={"address": cluster.address, "storage": bucket})
        rows = []
        for stage, folder in projects.items():
            found = lose_nodes(stage, folder, cluster, nodes, moments=moments, seed=seed)
            rows.append((stage, f"{here_s[stage]:.1f}", *found))
        cluster.shutdown()
        left = [path for path in Path(name, "bucket").rglob("*") if path.is_file()]
    columns = ("stage", "here, s", f"{N_NODES} nodes, s", "nodes lost", "runs with the same bytes", "with a loss, s")
    show_table("Nodes lost in the middle of a stage", columns, rows)
    if left or any(same != f"{moments + 1} of {moments + 1}" for *_, same, _ in rows):
        sys.exit(f"other bytes, or files left in the storage: {left}")


if __name__ == "__main__":
    typer.run(main)
