"""Does a loss help? Train variants with several seeds on the same photos, and compare them photo by photo."""

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
import torch
import typer

from stages.cli import InputError, run, show_table
from stages.evaluate.gallery import embed_photos, embed_places, locate
from stages.evaluate.metrics import THRESHOLDS_KM, drives
from stages.figures import write_figure
from stages.geo import great_circle_km
from stages.params import Train, load_params
from stages.shards import written_whole
from stages.study.compare import difference
from stages.study.figures import draw_differences
from stages.study.variants import parse_variant
from stages.train.loop import train
from stages.train.losses import LOSSES
from stages.train.setup import Split, fingerprint, prepare, read_split, run_facts, validation_of
from stages.variogram.models import Semivariogram, read_model

RUNS, REPORTS, VARIOGRAM = Path("data/study"), Path("reports/study"), Path("data/variogram/model.json")


def run_errors_km(
    loss: str,
    p: Train,
    splits: dict[str, Split],
    split: str,
    semivariogram: Semivariogram | None,
    center: list[float] | None,
) -> np.ndarray:
    """Errors (n,) in km of a split's photos, retrieved among the training places; from disk if this run was made.

    center: the mean that was subtracted from the features, or None.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    expected = semivariogram if LOSSES[loss].uses_semivariogram else None
    this_run = prepare(loss, p, splits["train"], expected, device=device, center=center)
    digest = fingerprint(run_facts(loss, p), list(splits.values()), this_run)[:16]
    path = RUNS / f"{loss}-{digest}-{split}.npy"
    if not path.is_file():
        validation = validation_of(splits["train"], splits["val"], device)
        train(this_run, validation, RUNS / f"{loss}-{digest}.pt", digest)
        gallery, model = splits["train"].angles(), this_run.model
        top = locate(model, embed_photos(model, splits[split].features), gallery, embed_places(model, *gallery), 1)
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.save(file, great_circle_km(*splits[split].angles(), top.latitude[:, 0], top.longitude[:, 0]))
        (RUNS / f"{loss}-{digest}.pt").unlink(missing_ok=True)
    return np.load(path)


def main(
    variants: Annotated[
        list[str],
        typer.Argument(metavar="VARIANT...", help="LOSS or LOSS:key=value,key=value; the first is compared against."),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="How many, from train.seed on.")] = 3,
    split: Annotated[Literal["val", "test"], typer.Option(help="val to choose params by, test to report.")] = "test",
) -> None:
    """Train variants of the losses with several seeds and compare their accuracy, photo by photo."""
    params = load_params()
    if len(variants) < 2 or len(set(variants)) < len(variants):
        raise InputError(f"{' '.join(variants)}: a study compares two or more different variants; name each once")
    chosen = {name: parse_variant(name, params.train) for name in variants}
    features = Path("data") / params.data.source / "features"
    splits = {name: read_split(features / name) for name in ("train", "val", "test")}
    center = json.loads((features / "encoder.json").read_text()).get("center")
    semivariogram = (
        read_model(VARIOGRAM) if any(LOSSES[loss].uses_semivariogram for loss, _ in chosen.values()) else None
    )

    errors_km, rows = {}, []
    for name, (loss, p) in chosen.items():
        by_seed = []
        for seed in range(p.seed, p.seed + seeds):
            error_km = run_errors_km(loss, p.model_copy(update={"seed": seed}), splits, split, semivariogram, center)
            accuracies = {key: float((error_km <= km).mean()) for key, km in THRESHOLDS_KM.items()}
            rows.append({"variant": name, "seed": seed, **accuracies, "median_error_km": float(np.median(error_km))})
            by_seed.append(error_km)
        errors_km[name] = np.stack(by_seed)
    base, drive = errors_km[variants[0]], drives(splits[split].places["sequence"])
    differences = {name: difference(errors_km[name], base, drive, seed=params.train.seed) for name in variants[1:]}

    by_run = pl.DataFrame(rows)
    keys = ("difference", "low", "high")
    flat = [
        {"variant": name, "metric": key, **dict(zip(keys, values, strict=True))}
        for name, by_key in differences.items()
        for key, values in by_key.items()
    ]
    with written_whole(REPORTS / "accuracy.csv") as temporary:
        by_run.write_csv(temporary)
    with written_whole(REPORTS / "differences.csv") as temporary:
        pl.DataFrame(flat).write_csv(temporary)
    write_figure(draw_differences(differences, variants[0]), REPORTS / "differences")
    show_summary(by_run, differences, variants[0], split)


def show_summary(by_run: pl.DataFrame, differences: dict[str, dict], base: str, split: str) -> None:
    """Print the mean accuracies of the variants, and their differences from the first."""
    mean = by_run.group_by("variant", maintain_order=True).mean().drop("seed")
    titles = [f"{km:,.0f} km" for km in THRESHOLDS_KM.values()]
    rows = [(name, *(f"{100 * value:.1f}" for value in row), f"{median:,.0f}") for name, *row, median in mean.rows()]
    n_seeds = by_run["seed"].n_unique()
    show_table(f"Accuracy on {split}, per cent, mean of {n_seeds} seeds", ("", *titles, "median km"), rows)
    rows = [
        (name, title, *(f"{100 * value:+.1f}" for value in by_key[key]))
        for name, by_key in differences.items()
        for key, title in zip(THRESHOLDS_KM, titles, strict=True)
    ]
    show_table(f"Difference from {base}, points", ("", "within", "difference", "95 % from", "to"), rows)


if __name__ == "__main__":
    run(main)
