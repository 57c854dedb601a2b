"""Stage 7: one page that a person reads, and the figures in it as files."""

import io
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from tqdm import tqdm

from stages.cli import run, show_table
from stages.evaluate.breakdown import by_density, density
from stages.evaluate.metrics import THRESHOLDS_KM
from stages.params import load_params
from stages.report import figures as draw
from stages.report.content import (
    AREAS,
    DISTANCES,
    LABELS,
    PAPER_ROWS,
    comparisons,
    extremes,
    finding,
    markdown_table,
    neighbourhoods,
    percent,
    points,
    results,
)
from stages.report.photos import data_uri, read_photos, thumbnail
from stages.shards import read_features, written_whole
from stages.variogram.models import read_model
from stages.world.truth import correlation

REPORTS = Path("reports")
BASELINES = ("image_knn", "most_frequent")
SHEET_ROWS, SHEET_COLUMNS = 6, 8
N_BOOTSTRAP, SEED = 2000, 1  # of the paired differences and of the choice of photos
PAGE_DPI, PAPER_DPI = 110, 200
PACKAGES = ("torch", "open_clip_torch", "numpy", "scipy", "polars", "pyarrow", "dvc")


def main() -> None:
    """Write reports/index.html, its figures, and the summary for the README."""
    params = load_params()
    losses, source = params.train.losses, Path("data", params.data.source)
    names = [*losses, *BASELINES]
    predictions = {name: pl.read_parquet(f"data/predictions/{name}.parquet") for name in names}
    metrics = {name: json.loads((REPORTS / f"evaluation/{name}.json").read_text()) for name in names}
    errors_km = {name: table["error_km"].to_numpy() for name, table in predictions.items()}
    differences = comparisons(errors_km, losses, n_bootstrap=N_BOOTSTRAP, seed=SEED)
    shown = "semivariogram" if "semivariogram" in losses else losses[0]
    model = read_model(Path("data/variogram/model.json"))
    empirical = pl.read_csv(REPORTS / "variogram/empirical.csv")
    encoder = json.loads((source / "features/encoder.json").read_text())
    coastlines = pl.read_csv(source / "raw/geography/coastlines.csv")
    places = {split: read_features(source / "features" / split)[0] for split in ("train", "test")}

    paper = {
        "error_curves": draw.error_curves(errors_km),
        "learning_curves": draw.learning_curves(
            {loss: pl.read_csv(REPORTS / f"training/{loss}.csv") for loss in losses}
        ),
        "photo_map": draw.photo_map(coastlines, places),
        "error_map": draw.error_map(coastlines, predictions[shown]),
        "region_map": draw.region_map(coastlines, predictions[shown]),
    }
    truth = source / "raw/geography/truth.json"
    if truth.exists() and model.range_km is not None:
        rho = correlation(draw.CURVE_KM, json.loads(truth.read_text()))
        bins = empirical.filter(pl.col("n_pairs") > 0)
        paper["against_truth"] = draw.against_truth(model, *bins.select("lag_km", "semivariance").to_numpy().T, rho)
    on_page = {name: data_uri(_png(figure, PAGE_DPI), "image/png") for name, figure in paper.items()}
    for name in ("semivariogram", "negatives"):
        on_page[name] = data_uri((REPORTS / f"variogram/{name}.png").read_bytes(), "image/png")

    page = _environment(on_page).get_template("page.html.j2").render(
        finding=finding(metrics, differences),
        is_world=truth.exists(),
        is_untrained=encoder["pretrained"] == "untrained",
        encoder=encoder,
        n_test=len(errors_km[shown]),
        distances=list(DISTANCES.values()),
        areas=list(AREAS.values()),
        by_distance=results(metrics, DISTANCES),
        by_area=results(metrics, AREAS),
        differences=_difference_rows(differences),
        paper_rows=_paper_rows() if params.data.source == "hub" else [],
        counts=encoder["photos"],
        rejected=_rejected(source / "shards/rejected.parquet"),
        sheet_columns=SHEET_COLUMNS,
        model=model,
        figures=on_page,
        shown_label=LABELS[shown],
        by_density=_density_rows(places, errors_km[shown]),
        facts=_facts(params.data.source, encoder, losses, model),
        **_photos(source / "shards", places["test"], predictions[shown], coastlines, params.report.n_examples),
    )  # fmt: skip
    _write(REPORTS / "index.html", page.encode())
    for name, figure in paper.items():
        _write(REPORTS / f"figures/{name}.png", _png(figure, PAPER_DPI))
    _write(REPORTS / "readme.png", _png(draw.summary(empirical, model, metrics), PAGE_DPI))
    about = (
        f"{len(errors_km[shown]):,} test photos of the source `{params.data.source}`; encoder `{encoder['model']}` "
        f"({encoder['pretrained']}); 95 % intervals."
    )
    _write(REPORTS / "results.md", markdown_table(metrics, differences, about).encode())

    rows = [
        (row["label"], *(cell["value"] for cell in row["cells"]), row["median_error_km"])
        for row in results(metrics, DISTANCES)
    ]
    show_table("Test photos within a distance, per cent", ["", *DISTANCES.values(), "median error, km"], rows)
    show_table(
        "Report", ["file", "kB"], [(path, f"{path.stat().st_size / 1000:,.0f}") for path in (REPORTS / "index.html",)]
    )


def _environment(figures: dict[str, str]) -> Environment:
    """Jinja with the macro figure(name, caption)."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.from_string(
        '<figure class="figure"><img src="{{ source }}" alt="{{ caption }}">'
        "<figcaption>{{ caption }}</figcaption></figure>"
    )
    environment.globals["figure"] = lambda name, caption: Markup(template.render(source=figures[name], caption=caption))
    return environment


def _png(figure: Figure, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    with written_whole(path) as temporary:
        temporary.write_bytes(data)


def _difference_rows(differences: dict[str, dict]) -> list[dict]:
    rows = []
    for loss, by_key in differences.items():
        cells = [
            {"value": points(d), "low": points(low), "high": points(high), "is_sure": low > 0 or high < 0}
            for d, low, high in (by_key[key] for key in DISTANCES)
        ]
        d, low, high = by_key["median_error_km"]
        cells.append(
            {"value": f"{d:+,.0f} km", "low": f"{low:+,.0f}", "high": f"{high:+,.0f}", "is_sure": low > 0 or high < 0}
        )
        rows.append({"label": LABELS[loss], "cells": cells})
    return rows


def _paper_rows() -> list[tuple[str, list[str]]]:
    return [
        (label, [f"{values[key]:.1f}" if key in values else "–" for key in DISTANCES]) for label, values in PAPER_ROWS
    ]


def _rejected(path: Path) -> list[tuple[str, int]]:
    return pl.read_parquet(path).group_by("reason").len().sort("len", "reason", descending=[True, False]).rows()


def _density_rows(places: dict[str, pl.DataFrame], error_km: np.ndarray) -> list[dict]:
    near = density(
        *(places[split][axis].to_numpy() for split in ("test", "train") for axis in ("latitude", "longitude"))
    )
    classes = by_density(near, error_km)
    uppers = {0: "none", 1: "1 to 9", 10: "10 to 99", 100: "100 to 999", 1000: "1000 and more"}
    return [
        {
            "label": uppers[row["group"]],
            "count": row["count"],
            "cells": [percent(row[key]) for key in THRESHOLDS_KM],
            "median": f"{row['median_error_km']:,.0f}",
        }
        for row in classes.iter_rows(named=True)
    ]


def _facts(source: str, encoder: dict, losses: list[str], model) -> list[tuple[str, str]]:
    """What ran, for the end of the page; how long it took stands nowhere, as the same run must make the same page."""
    config = json.loads(Path(f"data/models/{losses[0]}/config.json").read_text())["training"]
    shared = {key: value for key, value in config.items() if not isinstance(value, dict) and key != "loss"}
    own = {
        loss: json.loads(Path(f"data/models/{loss}/config.json").read_text())["training"].get(loss, {})
        for loss in losses
    }
    n_pairs = sum(model.n_pairs)
    return [
        ("data source", source),
        ("encoder", f"{encoder['model']}, weights {encoder['pretrained']}, {encoder['width']} numbers a photo"),
        (
            "semivariogram",
            f"{model.name}, weighted RMSE {model.weighted_rmse:.4f}, R² {model.r2:.3f}, {n_pairs:,.0f} pairs",
        ),
        ("training", ", ".join(f"{key} {value}" for key, value in shared.items())),
        *(
            (f"loss {loss}", ", ".join(f"{key} {value}" for key, value in values.items()) or "no params")
            for loss, values in own.items()
        ),
        ("versions", ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
    ]


def _photos(
    shards: Path, test: pl.DataFrame, predictions: pl.DataFrame, coastlines: pl.DataFrame, n_examples: int
) -> dict:
    """Everything of the page that shows photos: contact sheet, pairs and examples."""
    latitude, longitude = (test[axis].to_numpy() for axis in ("latitude", "longitude"))
    sheet = neighbourhoods(latitude, longitude, test["country"], SHEET_ROWS, SHEET_COLUMNS, SEED)
    sheet_ids = [test["id"][int(row)] for rows in sheet for row in rows]
    pairs = pl.read_csv(
        REPORTS / "variogram/example_pairs.csv", schema_overrides={"id_a": pl.String, "id_b": pl.String}
    )
    pairs = pl.concat(
        [pairs.filter(pl.col("kind") == kind).head(n_examples) for kind in ("hard_negative", "false_negative")]
    )
    chosen = extremes(predictions["error_km"].to_numpy(), n_examples)
    example_ids = [predictions["id"][int(row)] for rows in chosen.values() for row in rows]
    photos = read_photos(shards, [*sheet_ids, *pairs["id_a"], *pairs["id_b"], *example_ids])

    shown_pairs = {"hard_negative": [], "false_negative": []}
    for row in pairs.iter_rows(named=True):
        shown_pairs[row["kind"]].append(
            {
                "a": thumbnail(photos[row["id_a"]]),
                "b": thumbnail(photos[row["id_b"]]),
                "lag": _distance(row["lag_km"]),
                "distance": row["distance"],
                "expected": row["expected_distance"],
                "z": row["z"],
            }
        )
    names = dict(zip(test["id"], test.select("city", "region", "country").rows(), strict=True))
    examples = []
    for title, rows in tqdm(chosen.items(), desc="example maps", mininterval=1):
        cards = []
        for row in rows:
            prediction = predictions.row(int(row), named=True)
            place = ", ".join(name for name in names[prediction["id"]] if name) or "unnamed"
            figure = draw.prediction_map(coastlines, prediction)
            cards.append(
                {
                    "photo": thumbnail(photos[prediction["id"]]),
                    "map": data_uri(_png(figure, PAGE_DPI), "image/png"),
                    "error": _distance(prediction["error_km"]),
                    "place": f"taken in {place}",
                }
            )
        examples.append((f"{title.capitalize()} predictions", cards))
    return {"sheet": [thumbnail(photos[i]) for i in sheet_ids], "pairs": shown_pairs, "examples": examples}


def _distance(km: float) -> str:
    return f"{km:,.0f} km" if km >= 10 else f"{1000 * km:,.0f} m" if km < 1 else f"{km:.1f} km"


if __name__ == "__main__":
    run(main)
