"""Where photos come from. Each source fills a folder with OSV5M's layout; a new one is a function and its entry."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import stages.world
from stages.download.hub import fetch_hub
from stages.download.manifest import files_in
from stages.download.mirror import fetch_mirror
from stages.params import Hub, Mirror, World


class Source(NamedTuple):
    """fetch(params, folder) fills folder with what it lacks and returns all wanted paths and their revision.

    made_from(params) are the facts that make everything in the folder invalid when they change.
    """

    fetch: Callable[..., tuple[list[str], str | None]]
    made_from: Callable[..., dict]


def _draw_world(params: World, folder: Path) -> tuple[list[str], None]:
    stages.world.write_world(params, folder)
    return files_in(folder), None


def _world_facts(params: World) -> dict:
    # A world is made by its code as much as by its params.
    code = b"".join(path.read_bytes() for path in sorted(Path(stages.world.__file__).parent.glob("*.py")))
    return {**params.model_dump(), "code": hashlib.sha256(code).hexdigest()}


def _hub_facts(params: Hub) -> dict:
    return {"repository": params.repository, "revision": params.revision}


def _mirror_facts(params: Mirror) -> dict:
    return {"url": params.url}


SOURCES = {
    "world": Source(_draw_world, _world_facts),
    "hub": Source(fetch_hub, _hub_facts),
    "mirror": Source(fetch_mirror, _mirror_facts),
}
