"""Stage 1: get the archives and CSVs, or draw the synthetic world, in OSV5M's layout."""

from pathlib import Path

from stages.cli import run, show_table
from stages.download.geography import COASTLINES, PLACES, add_geography
from stages.download.manifest import remove_damaged, remove_others, write_manifest
from stages.download.sources import SOURCES
from stages.params import load_params
from stages.shards import keep_if_made_from


def main() -> None:
    """Fill data/<source>/raw with what it lacks and remove what params no longer name."""
    params = load_params().data
    source, section = SOURCES[params.source], getattr(params, params.source)
    folder = Path("data", params.source, "raw")
    keep_if_made_from(folder, source.made_from(section))
    sound = remove_damaged(folder)
    paths, revision = source.fetch(section, folder)
    add_geography(folder)
    remove_others(folder, [*paths, PLACES, COASTLINES])
    files = write_manifest(folder, params.source, revision, sound)
    sizes = {part: [f["bytes"] for f in files if f["path"].startswith(part)] for part in PARTS}
    rows = [(part, len(found), f"{sum(found) / 1e6:,.1f}") for part, found in sizes.items()]
    show_table(str(folder), ("part", "files", "MB"), rows + ([("revision", "", revision)] if revision else []))


PARTS = ("train.csv", "test.csv", "images/train", "images/test", "geography")

if __name__ == "__main__":
    run(main)
