"""Where the heavy stages' calls run: one after another on this machine, or side by side on the nodes of a Ray cluster.

A stage lists its calls: a function with an archive, with a shard, with two parts of the photos. The functions, and so
the results, are the same on both; only the map over the calls differs.

Ray, because such a call is a plain task. It has no shuffle and no table, for which there are Spark and Ray Data; it
wants a core or a GPU, and to be run again elsewhere when its node is lost; and nodes need no more than a pip install.
Training is no map but a step that all processes take together: that is torchrun's (stages/train/ranks.py).
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from stages.cluster.calls import Call, ThisMachine
from stages.cluster.files import SharedFolder, Storage
from stages.cluster.join import joined
from stages.cluster.ray_cluster import RayCluster
from stages.params import Cluster

__all__ = ["Call", "RayCluster", "ThisMachine", "Workers", "workers"]

Workers = ThisMachine | RayCluster


@contextlib.contextmanager
def workers(p: Cluster) -> Iterator[Workers]:
    """Where to work: this machine, or the cluster that params name.

    Raises InputError, within seconds, if it cannot be reached or Ray is not installed.
    """
    if p.address is None:
        yield ThisMachine()
        return
    with joined(p.address) as ray, contextlib.ExitStack() as at_the_end:
        files = at_the_end.enter_context(Storage.opened(p.storage)) if p.storage else SharedFolder(Path.cwd())
        yield RayCluster(ray, files)
