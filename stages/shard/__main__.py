"""Stage 2: archives and CSVs to Parquet shards of checked images with their places."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from tqdm import tqdm

from stages.cli import InputError, run, show_table
from stages.cluster import Call, Workers, workers
from stages.params import Data, Shard, load_params
from stages.shard import spool, write
from stages.shard.archive import list_photos
from stages.shard.filter import NOT_WANTED
from stages.shard.rows import FIRST_ROW
from stages.shards import SPLITS, list_shards, written_whole

SPLITS_OF = {"train": ("train", "val"), "test": ("test",)}
OSV5M_ARCHIVES = {"train": 98, "test": 5}
REJECTED, SPOOL = "rejected.parquet", ".spool"


def archives_of(raw: Path, split: str) -> dict[int, Path]:
    """Archives NN.zip of a split by number, in order. Raises InputError if there is none."""
    folder = raw / "images" / split
    found = {int(path.stem): path for path in folder.glob("*.zip") if path.stem.isdigit()}
    if not found:
        raise InputError(f"{folder} holds no archive NN.zip; run the download stage first: dvc repro download")
    return dict(sorted(found.items()))


def is_whole(data: Data, split: str) -> bool:
    """Whether params name every archive of a split; if not, a row without a photo is in none of those named."""
    if data.source == "world":
        return True
    wanted = getattr(getattr(data, data.source), f"{split}_archives")
    return wanted == "all" or (data.source == "hub" and len(set(wanted)) == OSV5M_ARCHIVES[split])


def shard_split(raw: Path, out: Path, split: str, p: Shard, *, is_whole: bool, machine: Workers) -> dict[str, int]:
    """Write what is not there yet of the shards of a CSV's archives, and of the lists of what they leave out.

    Returns the number of rows that were not asked for, by why.
    """
    archives = archives_of(raw, split)
    _remove_others(out, split, set(archives))
    index = spool.index_photos(list(archives.values()))
    rows = spool.Spool(out / SPOOL / f"{split}.arrow", len(archives))
    places = spool.spool_rows(raw / f"{split}.csv", index, p.filter, rows)
    is_validation = spool.validation_rows(places, p) if split == "train" else np.zeros(places.n_rows, bool)

    with tqdm(total=len(index.hashes), desc=f"shard {split}", unit=" photos", mininterval=1) as progress:

        def calls() -> Iterator[Call]:
            """A call for each archive whose shards are not there; made when its turn comes, as it holds the rows."""
            for position, archive in enumerate(archives.values()):
                listed = list_photos(archive)
                photos = listed.with_columns(is_elsewhere=index.find(listed["id"]) != position)
                photos, left_out = write.match(photos, rows.rows_of(position))
                here = pl.Series(is_validation[photos["row"].to_numpy() - FIRST_ROW])
                photos = photos.with_columns(split=pl.when(here).then(pl.lit("val")).otherwise(pl.lit(split)))
                progress.update(len(listed) - len(photos))
                call = call_for(archive, photos, left_out, out, p.short_side_px)
                if call is None:
                    progress.update(len(photos))
                else:
                    yield call

        for _ in machine.map(write.write_archive, calls(), progress.update):
            pass

    lost = rows.ids_without_photo()
    n_lost = lost.select(pl.len()).collect(engine="streaming").item()
    reason = pl.lit("no image").alias("reason")
    lost = lost.limit(n_lost if is_whole else 0).with_columns(reason).collect(engine="streaming")
    write.write_rejected(out / "rejected" / split / "no_image.parquet", lost, split, None, "")
    return {NOT_WANTED: places.n_not_wanted, "in archives not asked for": n_lost - len(lost)}


def call_for(archive: Path, photos: pl.DataFrame, left_out: pl.DataFrame, out: Path, short_side_px: int) -> Call | None:
    """The call of write.write_archive that makes an archive's shards; None if they are there."""
    split, number = archive.parent.name, int(archive.stem)
    listed = out / "rejected" / split / f"{number:05}.parquet"
    shards = {name: out / name / f"{number:05}.parquet" for name in SPLITS_OF[split]}
    facts = write.fingerprint(photos, left_out, short_side_px)
    # The list last: where it is, the shards are.
    files = *shards.values(), listed
    if all(write.is_made_from(path, facts) for path in files):
        return None
    return Call((archive, photos, left_out, shards, listed, short_side_px, facts), (archive,), files)


def _remove_others(out: Path, split: str, numbers: set[int]) -> None:
    """Remove the shards of archives that are no longer there, and what a killed run left half-written."""
    for folder in (*(out / name for name in SPLITS_OF[split]), out / "rejected" / split):
        for path in [*list_shards(folder, ".parquet"), *folder.glob(".*.partial")]:
            if path.suffix == ".partial" or int(path.stem) not in numbers:
                path.unlink()


def main() -> None:
    """Check the images and write them with their places as Parquet shards."""
    params = load_params()
    raw, out = (Path("data", params.data.source, name) for name in ("raw", "shards"))
    with workers(params.cluster) as machine:
        shutil.rmtree(out / SPOOL, ignore_errors=True)
        (out / SPOOL).mkdir(parents=True)
        not_wanted = {
            split: shard_split(raw, out, split, params.shard, is_whole=is_whole(params.data, split), machine=machine)
            for split in SPLITS_OF
        }
    shutil.rmtree(out / SPOOL)

    rejected = write.read_rejected(sorted((out / "rejected").rglob("*.parquet")))
    with written_whole(out / REJECTED) as temporary:
        pq.write_table(rejected, temporary)
    n_photos = {s: sum(pq.read_metadata(path).num_rows for path in list_shards(out / s, ".parquet")) for s in SPLITS}
    show_summary(n_photos, pl.from_arrow(rejected), not_wanted)
    n_filtered = sum(counts[NOT_WANTED] for counts in not_wanted.values())
    refuse_loss(n_photos, len(rejected), n_filtered, params.shard.max_rejected_fraction, out / REJECTED)


def show_summary(n_photos: dict[str, int], rejected: pl.DataFrame, not_wanted: dict[str, dict]) -> None:
    """Print how many photos each split has, and how many rows and images were left out for what reason."""
    show_table("Shards", ("split", "photos"), [(split, f"{n:,}") for split, n in n_photos.items()])
    counts = rejected.group_by("reason", "split").len().sort("reason", "split")
    rows = [(reason, split, f"{n:,}") for reason, split, n in counts.iter_rows()]
    rows += [(f"({why})", split, f"{n:,}") for split, ns in not_wanted.items() for why, n in ns.items() if n]
    if rows:
        show_table("Left out", ("reason", "split", "rows and images"), rows)


def refuse_loss(
    n_photos: dict[str, int], n_rejected: int, n_filtered: int, max_rejected_fraction: float, rejected: Path
) -> None:
    """Raise InputError if more was left out than params allow, or if nothing is left to train on or to test."""
    share = n_rejected / max(n_rejected + n_filtered + sum(n_photos.values()), 1)
    if share > max_rejected_fraction:
        raise InputError(
            f"{share:.1%} of the rows and images were left out, more than shard.max_rejected_fraction "
            f"({max_rejected_fraction:.1%}); the table above and {rejected} say why: mend the source or raise the limit"
        )
    for split in SPLITS_OF:
        if not n_photos[split]:
            raise InputError(f"no photo is left for {split}; the table above and {rejected} say why")


if __name__ == "__main__":
    run(main)
