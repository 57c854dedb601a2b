"""Shard files: their schemas, atomic writing, fingerprints of folders, and memory-mapped reading."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from stages.cli import InputError

SPLITS = ("train", "val", "test")

PLACE_FIELDS = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("latitude", pa.float64(), nullable=False),  # degrees
    pa.field("longitude", pa.float64(), nullable=False),  # degrees
    pa.field("country", pa.string()),
    pa.field("region", pa.string()),
    pa.field("sub_region", pa.string()),
    pa.field("city", pa.string()),
    pa.field("sequence", pa.string()),
    pa.field("captured_at", pa.string()),
]
SHARD_SCHEMA = pa.schema([*PLACE_FIELDS, pa.field("image", pa.binary(), nullable=False)])
REJECTED_SCHEMA = pa.schema([pa.field(name, pa.string()) for name in ("split", "id", "archive", "reason")])

FINGERPRINT = "fingerprint.json"


def feature_schema(width: int) -> pa.Schema:
    """Schema of a feature shard: a place's columns and its feature, width float16 numbers."""
    return pa.schema([*PLACE_FIELDS, pa.field("feature", pa.list_(pa.float16(), width), nullable=False)])


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside path, renamed to path when the block ends well and removed when it does not.

    A file that exists under its final name is therefore whole, whenever the process was killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # the bytes before the name: a power cut must not leave a whole name on half a file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write value as indented JSON, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def keep_if_made_from(folder: Path, facts: dict) -> bool:
    """Make folder ready for outputs made from facts (JSON values); clear it first if it was made from other facts.

    Returns True if what the folder holds fits the facts and may be kept. DVC keeps persisted outputs when params
    change, so without this check "skip what exists" would silently keep what the old params made.
    """
    fingerprint = folder / FINGERPRINT
    facts = json.loads(json.dumps(facts))
    if fingerprint.exists() and json.loads(fingerprint.read_text()) == facts:
        return True
    if folder.exists():
        shutil.rmtree(folder)
    write_json(fingerprint, facts)
    return False


def list_shards(folder: Path, suffix: str) -> list[Path]:
    """Shard files NNNNN<suffix> of a split's folder, in order; [] if there are none."""
    return sorted(path for path in folder.glob(f"*{suffix}") if path.stem.isdigit())


class FeatureRows:
    """Features of many shards as one (n, d) float16 matrix that stays on disk until its rows are asked for."""

    def __init__(self, chunks: list[np.ndarray]):
        self.chunks = chunks
        self.starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        self.shape = (int(self.starts[-1]), chunks[0].shape[1] if chunks else 0)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Rows by an integer array or a slice, in the order asked for. Returns (len(rows), d) float16."""
        rows = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows + len(self) * (rows < 0)
        taken = np.empty((len(rows), self.shape[1]), np.float16)
        order = np.argsort(rows, kind="stable")  # so that a chunk is met once, and read from its start to its end
        chunks, first = np.unique(np.searchsorted(self.starts, rows[order], side="right") - 1, return_index=True)
        for chunk, here in zip(chunks, np.split(order, first[1:]), strict=False):  # no row: no chunk, one empty part
            taken[here] = self.chunks[chunk][rows[here] - self.starts[chunk]]
        return taken


def read_features(folder: Path) -> tuple[pl.DataFrame, FeatureRows]:
    """Places (a row a photo) and features of a split's Arrow shards, memory-mapped.

    Raises InputError if there are no shards.
    """
    tables = []
    for path in list_shards(folder, ".arrow"):
        with pa.memory_map(str(path)) as source:
            tables.append(pa.ipc.open_file(source).read_all())
    if not tables:
        raise InputError(
            f"{folder} holds no feature shards (NNNNN.arrow); run the features stage first: dvc repro features"
        )
    chunks = [
        batch.flatten().to_numpy(zero_copy_only=True).reshape(-1, table.schema.field("feature").type.list_size)
        for table in tables
        for batch in table["feature"].chunks
        if len(batch)
    ]
    places = pl.from_arrow(pa.concat_tables(table.drop_columns("feature") for table in tables))
    return places, FeatureRows(chunks)
