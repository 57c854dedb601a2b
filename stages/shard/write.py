"""The photos of one archive with their rows, and the shards made of them."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from stages.shard.archive import read_photos
from stages.shard.filter import NOT_WANTED
from stages.shard.pool import in_order, process_pool
from stages.shards import PLACE_FIELDS, REJECTED_SCHEMA, SHARD_SCHEMA, written_whole

VERSION = 1  # raised when the same photos and rows give other shards
CHUNK = 64  # photos that one process reads, decodes and gives back at a time
ROW_GROUP = 512
MADE_FROM = b"made_from"
PLACE_COLUMNS = [field.name for field in PLACE_FIELDS]


def match(photos: pl.DataFrame, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """An archive's photos with their rows, in the archive's order; and (id, reason) of photos and rows left out.

    photos: archive.MEMBER_SCHEMA and is_elsewhere, whether an earlier archive holds the same id.
    rows: the spooled rows of this archive.  Of rows or photos of one id the first counts.  Photos that the filter
    leaves out are in neither.
    """
    is_first = photos["id"].is_first_distinct() & ~photos["is_elsewhere"]
    is_first_row = rows["id"].is_first_distinct()
    reason = (
        pl.when(pl.col("member").is_null()).then(pl.lit("no image"))
        .when(pl.col("row").is_null()).then(pl.lit("no row"))
        .otherwise("reason")
    )  # fmt: skip
    joined = photos.filter(is_first).join(rows.filter(is_first_row), on="id", how="full", coalesce=True)
    joined = joined.with_columns(reason=reason).sort("offset", "id")
    left_out = [
        joined.filter(pl.col("reason") != NOT_WANTED).select("id", "reason"),
        rows.filter(~is_first_row).select("id", reason=pl.lit("duplicate id")),
        photos.filter(~is_first).select("id", reason=pl.lit("duplicate image")),
    ]
    return joined.filter(pl.col("reason").is_null()), pl.concat(left_out)


def fingerprint(photos: pl.DataFrame, left_out: pl.DataFrame, short_side_px: int) -> str:
    """What an archive's shards are made from: its directory with the photos' checksums, their rows, and the params."""
    digest = hashlib.sha256(f"{VERSION} {short_side_px}\n".encode())
    for table in (photos, left_out):
        digest.update(table.write_csv().encode())
    return digest.hexdigest()


def is_made_from(path: Path, facts: str) -> bool:
    """Whether a Parquet file exists and was made from facts."""
    return path.exists() and pq.read_schema(path).metadata.get(MADE_FROM) == facts.encode()


def write_archive(
    archive: Path,
    photos: pl.DataFrame,
    left_out: pl.DataFrame,
    paths: dict[str, Path],
    listed: Path,
    short_side_px: int,
    facts: str,
    *,
    n_cores: int,
    advance: Callable[[int], object],
) -> None:
    """Write an archive's shards, by split of paths, then to listed what they leave out.

    photos, left_out: as match gives them, photos with a column split.  advance(n) is told after every n photos.
    """
    unusable = write_shards(
        archive, photos, paths, short_side_px=short_side_px, facts=facts, n_cores=n_cores, advance=advance
    )
    split = archive.parent.name
    write_rejected(listed, pl.concat([left_out, unusable]), split, f"images/{split}/{archive.name}", facts)


def write_shards(
    archive: Path,
    photos: pl.DataFrame,
    paths: dict[str, Path],
    *,
    short_side_px: int,
    facts: str,
    n_cores: int,
    advance: Callable[[int], object],
) -> pl.DataFrame:
    """Write a shard for each split of paths; give back (id, reason) of the photos that could not be used.

    A process a core reads and decodes; the shards do not depend on how many there are.
    """
    chunks = list(photos.iter_slices(CHUNK))
    calls = ((archive, chunk["member"].to_list(), short_side_px) for chunk in chunks)
    left_out = []
    with contextlib.ExitStack() as stack:
        writers = {split: stack.enter_context(_Shard(path, facts)) for split, path in paths.items()}
        for chunk, images in zip(chunks, in_order(process_pool(n_cores), read_photos, calls), strict=True):
            is_usable = pl.Series([isinstance(image, bytes) for image in images])
            reasons = pl.Series("reason", [image for image in images if isinstance(image, str)], pl.String)
            left_out.append(chunk.filter(~is_usable).select("id").with_columns(reasons))
            usable = chunk.filter(is_usable).with_columns(
                image=pl.Series([image for image in images if isinstance(image, bytes)], dtype=pl.Binary)
            )
            for split, writer in writers.items():
                writer.write(usable.filter(pl.col("split") == split))
            advance(len(chunk))
    return pl.concat([pl.DataFrame(schema={"id": pl.String, "reason": pl.String}), *left_out])


class _Shard:
    """A Parquet shard that is being written; it appears when its block ends well."""

    def __init__(self, path: Path, facts: str):
        self.path, self.schema, self.waiting = path, SHARD_SCHEMA.with_metadata({MADE_FROM: facts}), []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(written_whole(self.path))
            # Images are compressed already; statistics of them would double the file's footer.
            self.file = stack.enter_context(
                pq.ParquetWriter(
                    temporary,
                    self.schema,
                    compression={name: "none" if name == "image" else "zstd" for name in SHARD_SCHEMA.names},
                    use_dictionary=[name for name in SHARD_SCHEMA.names if name not in ("id", "image")],
                    write_statistics=PLACE_COLUMNS,
                )
            )
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        if error[0] is None:
            self._flush()
        return self.stack.__exit__(*error)

    def write(self, photos: pl.DataFrame) -> None:
        """Append photos: the columns of a place, and image."""
        self.waiting.append(photos.select(SHARD_SCHEMA.names))
        if sum(map(len, self.waiting)) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self.waiting:
            table = pl.concat(self.waiting).to_arrow(compat_level=pl.CompatLevel.oldest())
            self.file.write_table(table.cast(self.schema))
            self.waiting = []


def write_rejected(path: Path, left_out: pl.DataFrame, split: str, archive: str | None, facts: str) -> None:
    """Write (id, reason) pairs of an archive in REJECTED_SCHEMA, with the facts that they were made from."""
    table = left_out.select(pl.lit(split).alias("split"), "id", pl.lit(archive).alias("archive"), "reason")
    schema = REJECTED_SCHEMA.with_metadata({MADE_FROM: facts})
    with written_whole(path) as temporary:
        pq.write_table(
            table.sort("id", "reason").to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema), temporary
        )


def read_rejected(paths: Iterable[Path]) -> pa.Table:
    """The tables of write_rejected, one after the other."""
    schema = REJECTED_SCHEMA
    return pa.concat_tables([schema.empty_table(), *(pq.read_table(path).cast(schema) for path in paths)])
