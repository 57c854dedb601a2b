"""What the earlier stages wrote about a run, read once."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from stages.cli import InputError
from stages.evaluate.choice import SOURCES
from stages.params import REFINED
from stages.shards import read_features
from stages.variogram.models import Semivariogram, read_model

REPORTS = Path("reports")
BASELINES = ("image_knn", "most_frequent")


@dataclass(frozen=True)
class Inputs:
    """All that the report is made of, but for the photos themselves."""

    source: str
    losses: list[str]
    predictions: dict[str, pl.DataFrame]  # by loss, refined answer and baseline: the same photos in the same order
    metrics: dict[str, dict]  # by loss, refined answer and baseline
    curves: dict[str, pl.DataFrame]  # by loss, over its training
    training: dict[str, dict]  # by loss, the params of its training
    model: Semivariogram
    empirical: pl.DataFrame
    pairs: pl.DataFrame
    variogram_figures: dict[str, bytes]
    encoder: dict
    places: dict[str, pl.DataFrame]  # train and test
    coastlines: pl.DataFrame
    rejected: pl.DataFrame
    truth: dict | None  # of a synthetic world

    @property
    def errors_km(self) -> dict[str, np.ndarray]:
        """Error of each test photo, (n,), by loss, refined answer and baseline."""
        return {name: table["error_km"].to_numpy() for name, table in self.predictions.items()}

    @property
    def answers(self) -> list[str]:
        """The losses, each followed by its refined answer if it has one."""
        return [name for name in self.predictions if name not in BASELINES]

    @property
    def repeated(self) -> list[str]:
        """Refined answers that are one of their sources' own; in a chart they would lie on its marks."""
        return [name for name, its in self.metrics.items() if its.get("refined_by") in SOURCES]

    @property
    def shown(self) -> str:
        """The loss whose predictions the maps and examples show."""
        return "semivariogram" if "semivariogram" in self.losses else self.losses[0]


def read_inputs(source: str, losses: list[str], refined: list[str]) -> Inputs:
    """What every stage before the report wrote. Raises InputError for the first file that is missing.

    refined: those of the losses that have a refined answer too.
    """
    answers = [name for loss in losses for name in (loss, f"{loss}{REFINED}") if name == loss or loss in refined]
    data, names = Path("data", source), [*answers, *BASELINES]
    truth = data / "raw/geography/truth.json"
    ids_are_text = {"id_a": pl.String, "id_b": pl.String}
    figures = ["semivariogram", "negatives"]
    if (REPORTS / "variogram/groups.png").exists():  # only with variogram.groups
        figures.append("groups")
    return Inputs(
        source=source,
        losses=losses,
        predictions={name: pl.read_parquet(_there(Path(f"data/predictions/{name}.parquet"))) for name in names},
        metrics={name: _read_json(REPORTS / f"evaluation/{name}.json") for name in names},
        curves={loss: pl.read_csv(_there(REPORTS / f"training/{loss}.csv")) for loss in losses},
        training={loss: _read_json(Path(f"data/models/{loss}/config.json"))["training"] for loss in losses},
        model=read_model(Path("data/variogram/model.json")),
        empirical=pl.read_csv(_there(REPORTS / "variogram/empirical.csv")),
        pairs=pl.read_csv(_there(REPORTS / "variogram/example_pairs.csv"), schema_overrides=ids_are_text),
        variogram_figures={name: _there(REPORTS / f"variogram/{name}.png").read_bytes() for name in figures},
        encoder=_read_json(data / "features/encoder.json"),
        places={split: read_features(data / "features" / split)[0] for split in ("train", "test")},
        coastlines=pl.read_csv(_there(data / "raw/geography/coastlines.csv")),
        rejected=pl.read_parquet(_there(data / "shards/rejected.parquet")),
        truth=_read_json(truth) if truth.exists() else None,
    )


def _there(path: Path) -> Path:
    if not path.exists():
        raise InputError(f"{path} is missing; the report shows what all other stages wrote, run them first: dvc repro")
    return path


def _read_json(path: Path) -> dict:
    return json.loads(_there(path).read_text())
