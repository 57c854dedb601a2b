"""Stage 7: one page that a person reads, and the figures in it as files."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from stages.cli import run, show_table
from stages.evaluate.metrics import drives, summarize
from stages.figures import picture, write_figure
from stages.params import REFINED, Params, load_params
from stages.report import content, examples, figures, maps
from stages.report.inputs import REPORTS, Inputs, read_inputs
from stages.report.page import render
from stages.report.photos import data_uri, figure_uri, read_photos, thumbnail
from stages.shards import written_whole

SHEET_ROWS, SHEET_COLUMNS = 6, 8
SHEET_SEED = 1
PACKAGES = ("torch", "open_clip_torch", "numpy", "scipy", "polars", "pyarrow", "dvc")


def main() -> None:
    """Write reports/index.html, its figures, and the summary for the README."""
    params = load_params()
    inputs = read_inputs(params.data.source, params.train.losses, params.evaluate.refine)
    errors_km, metrics = inputs.errors_km, inputs.metrics
    drive = drives(inputs.places["test"]["sequence"])
    resampling = {"n_bootstrap": params.evaluate.n_bootstrap, "seed": params.evaluate.seed}
    # A gallery of other places, or of some of them only, is limited by those.
    if params.evaluate.gallery == "train" and params.evaluate.gallery_size == 0:
        best_km = content.nearest_km(inputs.places["test"], inputs.places["train"])
        errors_km = errors_km | {"best_possible": best_km}
        metrics = metrics | {"best_possible": summarize(best_km, drive, **resampling)}
    differences = content.comparisons(errors_km, inputs.answers, drive, **resampling)
    by_distance = content.results(metrics, content.DISTANCES)

    drawn = {name: error_km for name, error_km in errors_km.items() if name not in inputs.repeated}
    charts = draw(inputs, drawn)
    on_page = {name: figure_uri(chart) for name, chart in charts.items()}
    on_page |= {name: data_uri(image, "image/png") for name, image in inputs.variogram_figures.items()}
    page = render(
        on_page,
        finding=content.finding(inputs.metrics, differences),
        is_world=inputs.truth is not None,
        encoder=inputs.encoder,
        n_test=len(inputs.places["test"]),
        n_drives=int(drive.max()) + 1,
        distances=list(content.DISTANCES.values()),
        areas=list(content.AREAS.values()),
        by_distance=by_distance,
        by_area=content.results(inputs.metrics, content.AREAS),
        differences=content.difference_rows(differences),
        is_refined_drawn=any(name.endswith(REFINED) for name in drawn),
        refinements=content.refinements(inputs.metrics, inputs.errors_km, drive, **resampling),
        paper_rows=content.paper_rows() if inputs.source == "hub" else [],
        rejected=content.count_reasons(inputs.rejected),
        model=inputs.model,
        shown_label=content.label(inputs.shown),
        by_density=content.density_rows(inputs.places, errors_km[inputs.shown]),
        by_country=content.country_rows(inputs.places["test"]["country"], errors_km[inputs.shown]),
        facts=content.facts(sections_of(params), inputs.encoder, inputs.training, inputs.model),
        versions=", ".join(f"{name} {version(name)}" for name in PACKAGES),
        **photos_of_page(inputs, drive, params.report.n_examples),
    )

    write(REPORTS / "index.html", page.encode())
    for name, chart in charts.items():
        write_figure(chart, REPORTS / "figures" / name)
    compared = {name: its for name, its in inputs.metrics.items() if name in drawn}
    summary = figures.summary(inputs.empirical, inputs.model, compared)
    write(REPORTS / "readme.png", picture(summary))
    about = content.about(len(inputs.places["test"]), inputs.source, inputs.encoder)
    write(REPORTS / "results.md", content.markdown_table(metrics, differences, about).encode())
    rows = [(row["label"], *(cell["value"] for cell in row["cells"]), row["median_error"]) for row in by_distance]
    title = f"Test photos within a distance, per cent; the page is {REPORTS / 'index.html'}"
    show_table(title, ["", *content.DISTANCES.values(), "median error"], rows)


def sections_of(params: Params) -> dict[str, dict]:
    """The params of all stages but training, whose own are in its models, by what the page calls them."""
    sections = {name: getattr(params, name).model_dump() for name in ("shard", "features", "variogram", "evaluate")}
    data = {"source": params.data.source} | getattr(params.data, params.data.source).model_dump()
    return {"data": data, **sections}


def draw(inputs: Inputs, errors_km: dict) -> dict[str, Figure]:
    """The figures that are on the page and files too, by name."""
    shown = inputs.predictions[inputs.shown]
    charts = {
        "error_curves": figures.error_curves(errors_km),
        "learning_curves": figures.learning_curves(inputs.curves),
        "photo_map": maps.photo_map(inputs.coastlines, inputs.places),
        "error_map": maps.error_map(inputs.coastlines, shown),
        "region_map": maps.region_map(inputs.coastlines, shown),
    }
    if inputs.truth is not None and inputs.model.range_km is not None:
        charts["against_truth"] = figures.against_truth(inputs.model, inputs.empirical, inputs.truth)
    return charts


def photos_of_page(inputs: Inputs, drive: np.ndarray, n_examples: int) -> dict:
    """Everything of the page that shows photos: contact sheet, pairs and predictions.

    drive: (n,) int, of the test photos.
    """
    test, predictions = inputs.places["test"], inputs.predictions[inputs.shown]
    firsts = test[examples.one_a_drive(np.arange(len(test)), drive)]
    latitude, longitude = firsts.select("latitude", "longitude").to_numpy().T
    sheet = examples.neighbourhoods(latitude, longitude, firsts["country"], SHEET_ROWS, SHEET_COLUMNS, SHEET_SEED)
    sheet_ids = [firsts["id"][int(row)] for rows in sheet for row in rows]
    pairs = examples.first_pairs(inputs.pairs, n_examples)
    pair_ids = [i for of_kind in pairs.values() for i in (*of_kind["id_a"], *of_kind["id_b"])]
    chosen = examples.extremes(predictions["error_km"].to_numpy(), drive, n_examples)
    example_ids = [predictions["id"][int(row)] for rows in chosen.values() for row in rows]
    photos = read_photos(Path("data", inputs.source, "shards"), [*sheet_ids, *pair_ids, *example_ids])

    place_of = {place["id"]: place for place in test.iter_rows(named=True)}
    cards = {}
    for title, rows in tqdm(chosen.items(), desc="example maps", mininterval=1):
        of_title = (predictions.row(int(row), named=True) for row in rows)
        cards[title] = [
            examples.prediction_card(p, place_of[p["id"]], photos[p["id"]], inputs.coastlines) for p in of_title
        ]
    return {
        "sheet": [thumbnail(photos[i]) for i in sheet_ids],
        "sheet_columns": SHEET_COLUMNS,
        "pairs": {
            kind: [examples.pair_card(pair, photos) for pair in of_kind.iter_rows(named=True)]
            for kind, of_kind in pairs.items()
        },
        "examples": cards,
    }


def write(path: Path, data: bytes) -> None:
    """Write data to path, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_bytes(data)


if __name__ == "__main__":
    run(main)
