"""Rows of OSV5M's CSVs, a batch at a time: their columns as text, their coordinates checked."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv

from stages.cli import InputError

# The CSV's column and ours.
COLUMNS = {
    "id": "id",
    "latitude": "latitude",
    "longitude": "longitude",
    "country": "country",
    "region": "region",
    "sub-region": "sub_region",
    "city": "city",
    "sequence": "sequence",
    "captured_at": "captured_at",
}
BLOCK_BYTES = 2 << 20  # of CSV parsed at a time, about 3,400 rows of OSV5M; Arrow holds some twenty of them
FIRST_ROW = 2  # as a spreadsheet counts: the header is row 1

DECIMAL_COMMA = r"^[+-]?\d+,\d+$"
FLOAT_ID = r"^\d+(\.\d+)?[eE]\+?\d+$|^\d+\.0*$"


def read_rows(path: Path) -> Iterator[pl.DataFrame]:
    """Batches of the CSV's rows: our columns as text, empty cells null, and `row`, the number in a spreadsheet.

    Raises InputError if the file or a column is missing, if it is no CSV, or if the ids went through a float.
    """
    options = {
        "read_options": pa.csv.ReadOptions(block_size=BLOCK_BYTES),
        "parse_options": pa.csv.ParseOptions(newlines_in_values=True),
        "convert_options": pa.csv.ConvertOptions(
            include_columns=_columns_present(path),
            column_types=dict.fromkeys(COLUMNS, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        ),
    }
    row = FIRST_ROW
    try:
        with pa.csv.open_csv(path, **options) as batches:
            for batch in batches:
                rows = pl.from_arrow(batch).rename(COLUMNS).with_row_index("row", row)
                rows = rows.with_columns(pl.col("id", "latitude", "longitude").str.strip_chars())
                _refuse_float_ids(rows, path)
                yield rows
                row += len(rows)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not the CSV that it should be: {error}; get it anew or mend it") from None


def _columns_present(path: Path) -> list[str]:
    """The columns to read. Raises InputError if one of them, or the file, is not there."""
    if not path.exists():
        raise InputError(f"{path} is missing; run the download stage first: dvc repro download")
    try:
        with pa.csv.open_csv(path, parse_options=pa.csv.ParseOptions(newlines_in_values=True)) as batches:
            found = batches.schema.names
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a CSV in UTF-8: {error}; get it anew, or save it as one") from None
    if missing := [name for name in COLUMNS if name not in found]:
        raise InputError(
            f"{path} has no column {', '.join(map(repr, missing))}, only {', '.join(found)}; "
            "name its columns as OSV5M does, and leave empty what is not known"
        )
    return list(COLUMNS)


def _refuse_float_ids(rows: pl.DataFrame, path: Path) -> None:
    for row, text in rows.filter(pl.col("id").str.contains(FLOAT_ID)).select("row", "id").head(1).iter_rows():
        raise InputError(
            f"id {text} in row {row} of {path} is a float, which has lost digits; "
            "write the file again with ids as text (pandas: dtype={'id': str})"
        )


def check_coordinates(rows: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The rows with latitude and longitude as float64 degrees, and `reason`: why a row can't be used, or null.

    rows: as read_rows gives them, from the CSV at path.  Raises InputError for decimal commas.
    """
    for name in ("latitude", "longitude"):
        for row, text in rows.filter(pl.col(name).str.contains(DECIMAL_COMMA)).select("row", name).head(1).iter_rows():
            raise InputError(
                f"{name} {text} in row {row} of {path} has a decimal comma; write {text.replace(',', '.')}"
            )
    latitude, longitude = (pl.col(name).cast(pl.Float64, strict=False) for name in ("latitude", "longitude"))
    is_missing = latitude.is_nan() | longitude.is_nan() | pl.col("latitude").is_null() | pl.col("longitude").is_null()
    reason = (
        pl.when(pl.col("id").is_null()).then(pl.lit("id missing"))
        .when(is_missing).then(pl.lit("coordinates missing"))
        .when(latitude.is_null() | longitude.is_null()).then(pl.lit("coordinates not numbers"))
        .when((latitude.abs() > 90) | (longitude.abs() > 180)).then(pl.lit("coordinates out of range"))
        .when((latitude == 0) & (longitude == 0)).then(pl.lit("coordinates 0,0"))
    )  # fmt: skip
    return rows.with_columns(latitude=latitude, longitude=longitude, reason=reason)


def looks_swapped(rows: pl.DataFrame) -> pl.DataFrame:
    """Of the rows with checked coordinates those that would be in range with latitude and longitude exchanged."""
    return rows.filter((pl.col("latitude").abs() > 90) & (pl.col("longitude").abs() <= 90))
