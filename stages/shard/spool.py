"""The rows of a CSV on disk, each with the archive that holds its photo: memory holds numbers only, never the text."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from tqdm import tqdm

from stages.cli import InputError
from stages.params import Filter, Shard
from stages.shard.archive import list_photos
from stages.shard.filter import NOT_WANTED, count_photos, set_aside
from stages.shard.rows import FIRST_ROW, check_coordinates, looks_swapped, read_rows
from stages.shard.split import NO_DRIVE, cells, draw_by_density, draw_validation, groups

# Rows parted by archive in memory at a time, OSV5M's with its 98 archives in 40 MB; and for each archive, as a record
# batch takes 0.1 ms however few rows it has.
ROWS_AT_A_TIME, ROWS_AN_ARCHIVE = 1 << 16, 64
SWAPPED_SHARE = 0.2  # of all rows; a third of the photos on Earth lie beyond 90 degrees east or west


class PhotoIndex:
    """The number of the archive that holds the photo of an id; the first one if several do.

    Ids are kept as 64-bit hashes, 10 bytes each. Among 5 million ids two share a hash in one of a million data sets;
    one of their photos would then be set aside, with a reason.
    """

    def __init__(self, ids_of_archives: Iterable[pl.Series]):
        hashes = [ids.hash().to_numpy() for ids in ids_of_archives]
        archive = np.repeat(np.arange(len(hashes), dtype=np.uint16), [len(part) for part in hashes])
        self.hashes, first = np.unique(np.concatenate(hashes), return_index=True)
        self.archive = archive[first]

    def find(self, ids: pl.Series) -> pl.Series:
        """Archive numbers of ids (n,) as UInt16, null for an id without a photo."""
        wanted = ids.hash().to_numpy()
        at = np.searchsorted(self.hashes, wanted).clip(max=len(self.hashes) - 1)
        archive = pl.Series("archive", self.archive[at])
        return archive.set(pl.Series(self.hashes[at] != wanted), None)


def index_photos(archives: list[Path]) -> PhotoIndex:
    """Index of the photos of archives. Raises InputError if they hold none."""
    progress = tqdm(archives, desc=f"list {archives[0].parent.name} archives", mininterval=1)
    index = PhotoIndex(list_photos(path)["id"] for path in progress)
    if not len(index.hashes):
        raise InputError(f"the archives in {archives[0].parent} hold no <id>.jpg; is this OSV5M's layout?")
    return index


@dataclass(frozen=True)
class Places:
    """What is kept of a CSV in memory: how many rows it has, and of the m wanted ones what decides their split."""

    n_rows: int
    n_not_wanted: int  # rows with a photo that the filter leaves out
    row: np.ndarray  # (m,) from 0
    cell: np.ndarray  # (m,)
    drive: np.ndarray  # (m,)
    latitude: np.ndarray  # (m,) float32, degrees
    longitude: np.ndarray  # (m,) float32, degrees


class Spool:
    """An Arrow file of rows, each record batch of one archive, so that an archive's rows are read alone."""

    def __init__(self, path: Path, n_archives: int):
        self.path, self.waiting, self.writer = path, [], None
        self.at_a_time = max(ROWS_AT_A_TIME, ROWS_AN_ARCHIVE * n_archives)
        self.batches: dict[int | None, list[int]] = {}  # their numbers by archive; None: no archive has the photo

    def __enter__(self):
        self.sink = pa.OSFile(str(self.path), "wb")
        return self

    def __exit__(self, *error):
        with self.sink:
            if error[0] is None and self.waiting:
                self._flush()
            if self.writer is not None:
                self.writer.close()

    def write(self, rows: pl.DataFrame) -> None:
        """Append rows with a column archive."""
        self.waiting.append(rows)
        if sum(map(len, self.waiting)) >= self.at_a_time:
            self._flush()

    def _flush(self) -> None:
        waiting, self.waiting = pl.concat(self.waiting), []
        for (archive,), rows in waiting.partition_by("archive", as_dict=True, maintain_order=True).items():
            table = rows.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
            self.writer = self.writer or pa.ipc.new_file(self.sink, table.schema)
            self.batches.setdefault(archive, []).append(self.writer.stats.num_record_batches)
            self.writer.write_table(table)

    def rows_of(self, archive: int) -> pl.DataFrame:
        """The rows whose photos an archive holds, in the order they were written."""
        found = [self._reader.get_batch(number) for number in self.batches.get(archive, [])]
        return pl.from_arrow(pa.Table.from_batches(found, self._reader.schema).drop_columns("archive"), rechunk=True)

    @cached_property
    def _reader(self) -> pa.RecordBatchFileReader:
        # Read and not mapped: the pages of the whole file would count as this process's memory.
        return pa.ipc.open_file(pa.OSFile(str(self.path)))

    def ids_without_photo(self) -> pl.LazyFrame:
        """Column id of the rows whose photos no archive holds."""
        return pl.scan_ipc(self.path).filter(pl.col("archive").is_null()).select("id")


def spool_rows(csv: Path, index: PhotoIndex, p: Filter, spool: Spool) -> Places:
    """Write the CSV's rows with reason and archive to the spool.

    Raises InputError if the CSV can't be read, or if its latitudes and longitudes look exchanged.
    """
    parts, swapped, n_rows, n_wanted, n_not_wanted = [], [], 0, 0, 0
    progress = tqdm(desc=f"read {csv.name}", unit=" rows", unit_scale=True, mininterval=1)
    with progress, spool:
        for batch in read_rows(csv):
            rows = check_coordinates(batch, csv)
            rows = set_aside(rows.with_columns(index.find(rows["id"])), p, n_wanted)
            n_wanted += count_photos(rows, None)
            n_not_wanted += count_photos(rows, NOT_WANTED)
            swapped.append(looks_swapped(rows).select("row", "latitude", "longitude"))
            parts.append(_places(rows))
            n_rows += len(rows)
            spool.write(rows)
            progress.update(len(rows))
    if not n_rows:
        raise InputError(f"{csv} has a header and no row; get it anew")
    _refuse_swapped(pl.concat(swapped), n_rows, csv)
    columns = list(zip(*parts, strict=True))
    del parts  # a column's parts go when it is whole
    pa.default_memory_pool().release_unused()
    return Places(n_rows, n_not_wanted, *(np.concatenate(columns.pop(0)) for _ in range(len(columns))))


def _places(rows: pl.DataFrame) -> tuple[np.ndarray, ...]:
    usable = rows.filter(pl.col("reason").is_null())
    drive = usable.select(pl.when(pl.col("sequence").is_null()).then(NO_DRIVE).otherwise(pl.col("sequence").hash()))
    return (
        usable["row"].to_numpy() - FIRST_ROW,
        cells(usable["latitude"].to_numpy(), usable["longitude"].to_numpy()),
        drive.to_series().to_numpy(),
        usable["latitude"].to_numpy().astype(np.float32),
        usable["longitude"].to_numpy().astype(np.float32),
    )


def _refuse_swapped(swapped: pl.DataFrame, n_rows: int, csv: Path) -> None:
    if len(swapped) > SWAPPED_SHARE * n_rows:
        row, latitude, longitude = swapped.row(0)
        raise InputError(
            f"latitude {latitude} in row {row} of {csv} is outside [-90, 90] beside longitude {longitude}, as are "
            f"{len(swapped):,} of {n_rows:,} rows; are the columns latitude and longitude exchanged?"
        )


def validation_rows(places: Places, p: Shard) -> np.ndarray:
    """Whether a row of the CSV is for validation, (n_rows,) bool; false for rows that can't be used."""
    is_validation = np.zeros(places.n_rows, bool)
    if p.validation == "osv5m":
        drawn = draw_by_density(places.latitude, places.longitude, p.validation_fraction, p.seed)
    else:
        drawn = draw_validation(groups(places.cell, places.drive), p.validation_fraction, p.seed)
    is_validation[places.row] = drawn
    return is_validation
