"""Semivariogram of the training features: estimate, fit, plot."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from stages.cli import InputError, run, show_table
from stages.cluster import Workers, workers
from stages.figures import write_figure
from stages.params import Variogram, load_params
from stages.shards import read_features, written_whole
from stages.variogram.empirical import EmpiricalSemivariogram, drive_numbers, estimate, lag_edges_km
from stages.variogram.fit import fit
from stages.variogram.groups import GROUPINGS, Group, fit_groups, groups_table
from stages.variogram.models import Semivariogram, check_models, write_model
from stages.variogram.negatives import draw_cloud, find_examples
from stages.variogram.plot import groups_figure, negatives_figure, variogram_figure

MODEL_FILE = Path("data/variogram/model.json")
REPORTS = Path("reports/variogram")
N_EXAMPLES = 12  # of each kind
CLOUD_PAIRS_PER_LAG = 3000
CURVE_POINTS = 200


def empirical_table(empirical: EmpiricalSemivariogram) -> pl.DataFrame:
    """A row for each lag bin that has pairs; numbers that cannot be had are null."""
    names = ("lag_from_km", "lag_to_km", "lag_km", "semivariance", "std", "n_pairs", "se_sampling", "se_block")
    table = pl.DataFrame({name: getattr(empirical, name) for name in names})
    return table.filter(pl.col("n_pairs") > 0).fill_nan(None)


def fitted_table(model: Semivariogram) -> pl.DataFrame:
    """The fitted curve at log-spaced lags."""
    lag_km = np.geomspace(model.lag_km[0], model.lag_km[-1], CURVE_POINTS)
    return pl.DataFrame({"lag_km": lag_km, "semivariance": model.semivariance_at(lag_km)})


def _write_csv(table: pl.DataFrame, path: Path) -> None:
    with written_whole(path) as temporary:
        table.write_csv(temporary)


def main() -> None:
    """Estimate and fit the semivariogram of the training features, and draw it."""
    params = load_params()
    check_models(params.variogram.models)
    with workers(params.cluster) as machine:
        write_all(params.variogram, Path("data") / params.data.source / "features" / "train", machine)


def write_all(p: Variogram, folder: Path, machine: Workers) -> None:
    """Write the model, the tables and the figures of a folder of features."""
    try:
        places, features = read_features(folder)
    except ValueError as error:
        raise InputError(str(error)) from None
    latitude, longitude = places["latitude"].to_numpy(), places["longitude"].to_numpy()
    sequence = places["sequence"].to_list()
    edges_km = lag_edges_km(p.first_lag_km, p.n_lags)
    estimate_photos = partial(
        estimate,
        latitude,
        longitude,
        features,
        edges_km=edges_km,
        estimator=p.estimator,
        pairs=p.pairs,
        n_pairs_per_lag=p.n_pairs_per_lag,
        sequence=sequence if p.skip_same_sequence else None,
        machine=machine,
        seed=p.seed,
    )
    empirical = estimate_photos()
    _write_csv(empirical_table(empirical), REPORTS / "empirical.csv")
    model = fit(empirical, p.models)
    write_model(model, MODEL_FILE)
    _write_csv(fitted_table(model), REPORTS / "fitted.csv")
    write_figure(variogram_figure(empirical, model), REPORTS / "semivariogram")
    cloud = draw_cloud(latitude, longitude, features, edges_km, CLOUD_PAIRS_PER_LAG, p.seed)
    write_figure(negatives_figure(*cloud, edges_km, model), REPORTS / "negatives")
    drives = drive_numbers(sequence, len(latitude))
    examples = find_examples(latitude, longitude, features, drives, model, N_EXAMPLES)
    _write_csv(example_table(examples, places["id"]), REPORTS / "example_pairs.csv")
    show_summary(model, empirical, len(latitude))
    for path in REPORTS.glob("groups.*"):
        path.unlink()
    if p.groups != "none":
        whole = Group("all photos", len(latitude), empirical, model)
        groups, warnings = fit_groups(GROUPINGS[p.groups](places), lambda rows: estimate_photos(photos=rows), p.models)
        write_groups(p.groups, groups, whole, warnings)


def _in_digits(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.4g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def write_groups(by: str, groups: list[Group], whole: Group, warnings: list[str]) -> None:
    """Write and print the groups' table, and draw them."""
    table = groups_table(groups, whole)
    _write_csv(table, REPORTS / "groups.csv")
    write_figure(groups_figure(groups, whole), REPORTS / "groups")
    shown = table.drop("pairs", "largest_lag_km")
    cells = [["-" if cell is None else _in_digits(cell) for cell in row] for row in shown.rows()]
    show_table(f"Semivariograms by {by}", [name.replace("_", " ") for name in shown.columns], cells)
    show_warnings(warnings)


def example_table(examples, ids: pl.Series) -> pl.DataFrame:
    """Example pairs with their photos' ids."""
    rows = [(e.kind, ids[e.a], ids[e.b], e.lag_km, e.distance, e.expected_distance, e.z) for e in examples]
    schema = {"kind": pl.String, "id_a": pl.String, "id_b": pl.String}
    schema |= dict.fromkeys(("lag_km", "distance", "expected_distance", "z"), pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")


def show_summary(model: Semivariogram, empirical: EmpiricalSemivariogram, n_photos: int) -> None:
    """Print the candidates, the chosen one marked, and the warnings."""
    rows = []
    for c in model.candidates:
        mark = " <- chosen" if c["name"] == model.name else ""
        range_km = "-" if c["range_km"] is None else f"{c['range_km']:,.4g}"
        shape = ", ".join(f"{name} {value:.3g}" for name, value in c["shape"].items())
        cells = (f"{c[key]:.4f}" if c[key] is not None else "-" for key in ("nugget", "partial_sill"))
        errors = (f"{c[key]:.4f}" if c[key] is not None else "-" for key in ("weighted_rmse", "cross_validated_rmse"))
        aicc = "-" if c["aicc"] is None else f"{c['aicc']:.1f}"
        rows.append((c["name"] + mark, *cells, range_km, shape, *errors, aicc))
    title = f"Semivariogram of {n_photos:,} photos, {empirical.n_pairs.sum():,} pairs: {model.reason}"
    columns = ("model", "nugget", "partial sill", "range km", "shape", "rmse", "held-out rmse", "AICc")
    show_table(title, columns, rows)
    show_warnings(model.warnings)


def show_warnings(warnings: Sequence[str]) -> None:
    """Print the warnings, if there are any."""
    if warnings:
        show_table("Warnings", ("",), [(warning,) for warning in warnings])


if __name__ == "__main__":
    run(main)
