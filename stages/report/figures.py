"""The report's figures. draw_* functions add to given axes; the others make a figure of its own."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.evaluate.breakdown import by_cell
from stages.evaluate.maps import PREDICTION, draw_coastlines, draw_errors, draw_prediction, draw_shares, project
from stages.evaluate.metrics import THRESHOLDS_KM, accuracy_curve
from stages.report.content import DISTANCES, LABELS
from stages.variogram.models import Semivariogram
from stages.world.truth import gradual_semivariance, threshold_semivariance

# Okabe and Ito's palette, told apart by every kind of colour vision; the baselines are grey.
COLOURS = {
    "infonce": "#0072b2",
    "semivariogram": "#d55e00",
    "residual_scaling": "#009e73",
    "distance_soft": "#cc79a7",
    "hard_negative": "#e69f00",
    "image_knn": "#666666",
    "most_frequent": "#aaaaaa",
}
CURVE_KM = np.geomspace(0.1, 20_000, 200)


def error_curves(errors_km: dict[str, np.ndarray]) -> Figure:
    """Share of the photos within each distance, a line a name."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    ax = figure.add_subplot()
    for name, error_km in errors_km.items():
        style = {"ls": "--"} if name in ("image_knn", "most_frequent") else {"lw": 2}
        ax.plot(CURVE_KM, 100 * accuracy_curve(error_km, CURVE_KM), color=COLOURS[name], label=LABELS[name], **style)
    for km, name in zip(THRESHOLDS_KM.values(), ("street", "city", "region", "country", "continent"), strict=True):
        ax.axvline(km, color="0.85", lw=0.8, zorder=0)
        ax.annotate(
            name, (km, 1.01), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=9, color="0.35"
        )
    ax.set(
        xscale="log", xlabel="distance (km)", ylabel="photos placed within (%)", xlim=CURVE_KM[[0, -1]], ylim=(0, 100)
    )
    ax.legend(frameon=False, loc="upper left")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def draw_accuracies(ax: Axes, metrics: dict[str, dict]) -> None:
    """Accuracy by distance with its 95 % interval, a point a name, side by side at each distance."""
    width = 0.7 / len(metrics)
    for index, (name, values) in enumerate(metrics.items()):
        x = np.arange(len(DISTANCES)) + (index - (len(metrics) - 1) / 2) * width
        value, low, high = (100 * np.array([values[key + end] for key in DISTANCES]) for end in ("", "_low", "_high"))
        ax.errorbar(
            x,
            value,
            yerr=(value - low, high - value),
            fmt="o",
            ms=5,
            color=COLOURS[name],
            label=LABELS[name],
            capsize=2,
        )
    ax.set_xticks(range(len(DISTANCES)), DISTANCES.values())
    ax.set(xlabel="within", ylabel="test photos (%)", ylim=(0, None))
    ax.legend(frameon=False, loc="upper left")
    ax.spines[["top", "right"]].set_visible(False)


def draw_semivariogram(ax: Axes, empirical: pl.DataFrame, model: Semivariogram) -> None:
    """The lag bins with two block errors, and the fitted model; empirical has the columns of empirical.csv."""
    filled = empirical.filter(pl.col("n_pairs") > 0)
    lag_km, semivariance, error = (filled[name].to_numpy() for name in ("lag_km", "semivariance", "se_block"))
    ax.errorbar(
        lag_km,
        semivariance,
        yerr=2 * np.nan_to_num(error.astype(float)),
        fmt="o",
        ms=4,
        color="0.35",
        ecolor="0.75",
        label="lag bins, ± 2 block errors",
    )
    at = np.geomspace(model.lag_km[0], model.lag_km[-1], 300)
    ax.plot(at, model.semivariance_at(at), color=COLOURS["semivariogram"], lw=2, label=f"fitted: {model.name}")
    if model.range_km is not None:
        ax.axvline(model.range_km, color="0.5", lw=1, ls=":")
        ax.annotate(
            f"range {model.range_km:,.0f} km",
            (model.range_km, 0.03),
            xycoords=("data", "axes fraction"),
            xytext=(-4, 0),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color="0.35",
        )
    ax.set(xscale="log", xlabel="great-circle lag (km)", ylabel="semivariance (mean cosine distance)", ylim=(0, None))
    ax.legend(frameon=False, loc="upper left")
    ax.spines[["top", "right"]].set_visible(False)


def against_truth(model: Semivariogram, lag_km: np.ndarray, semivariance: np.ndarray, rho: np.ndarray) -> Figure:
    """The fit and its lag bins, rescaled from nugget 0 to sill 1, over what the world's latents must show.

    lag_km, semivariance: (k,) of the bins.  rho: (latents, 200) correlation of each latent at CURVE_KM.
    """
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    ax = figure.add_subplot()
    first_km, last_km = model.lag_km[[0, -1]]
    inside = (first_km <= CURVE_KM) & (last_km >= CURVE_KM)
    gradual, threshold = gradual_semivariance(rho), threshold_semivariance(rho)
    ax.fill_between(
        CURVE_KM,
        gradual.min(axis=0),
        threshold.max(axis=0),
        color="#0072b2",
        alpha=0.12,
        lw=0,
        label="truth: all latents",
    )
    ax.plot(CURVE_KM, threshold.mean(axis=0), color="#0072b2", lw=2, label="truth: mean, responding by threshold")
    ax.plot(CURVE_KM, gradual.mean(axis=0), color="#0072b2", lw=2, ls="--", label="truth: mean, responding gradually")
    fitted = (model.semivariance_at(CURVE_KM[inside]) - model.nugget) / model.partial_sill
    ax.plot(CURVE_KM[inside], fitted, color="#d55e00", lw=2, label="fitted to the features")
    ax.plot(
        lag_km,
        (semivariance - model.nugget) / model.partial_sill,
        "o",
        ms=4,
        color="0.35",
        label="lag bins of the features",
    )
    ax.set(
        xscale="log",
        xlabel="great-circle lag (km)",
        ylabel="share of the spatial variance reached",
        xlim=CURVE_KM[[0, -1]],
        ylim=(-0.05, 1.25),
    )
    ax.legend(frameon=False, loc="upper left")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def learning_curves(curves: dict[str, pl.DataFrame]) -> Figure:
    """Losses, accuracy within 25 km and within 200 km over the epochs, on training and validation photos."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels = {
        "validation_loss": "validation loss (infonce)",
        "accuracy_25km": "validation, within 25 km (%)",
        "accuracy_200km": "validation, within 200 km (%)",
    }
    for ax, (column, label) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name, curve in curves.items():
            scale = 1 if column == "validation_loss" else 100
            ax.plot(curve["epoch"], scale * curve[column], color=COLOURS[name], lw=2, label=LABELS[name])
        ax.set(xlabel="epoch", ylabel=label)
        ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return figure


def photo_map(coastlines: pl.DataFrame, places: dict[str, pl.DataFrame]) -> Figure:
    """Where the photos are, a colour a split."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    ax = figure.add_subplot()
    draw_coastlines(ax, coastlines)
    for (split, table), colour in zip(places.items(), ("#56b4e9", PREDICTION), strict=True):
        ax.scatter(
            *project(table["latitude"].to_numpy(), table["longitude"].to_numpy()),
            s=4,
            lw=0,
            color=colour,
            label=f"{split}: {len(table):,}",
            zorder=2,
        )
    ax.legend(loc="lower left", frameon=False, markerscale=3)
    return figure


def error_map(coastlines: pl.DataFrame, predictions: pl.DataFrame) -> Figure:
    """The test photos at their true places, coloured by how far off they were placed."""
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    ax = figure.add_subplot()
    draw_coastlines(ax, coastlines)
    draw_errors(ax, *(predictions[name].to_numpy() for name in ("latitude", "longitude", "error_km")))
    return figure


def region_map(coastlines: pl.DataFrame, predictions: pl.DataFrame) -> Figure:
    """Accuracy within 200 km of each region of about 500 km."""
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    ax = figure.add_subplot()
    draw_coastlines(ax, coastlines)
    cells = by_cell(*(predictions[name].to_numpy() for name in ("latitude", "longitude", "error_km")))
    columns = (cells[name].to_numpy() for name in ("latitude", "longitude", "accuracy_200km", "count"))
    discs = draw_shares(ax, *columns)
    figure.colorbar(
        discs, ax=ax, orientation="horizontal", shrink=0.5, pad=0.02, label="share of the region's photos within 200 km"
    )
    return figure


def prediction_map(coastlines: pl.DataFrame, prediction: dict) -> Figure:
    """One photo's true place and its best places. prediction: a row of the predictions."""
    figure = Figure(figsize=(3.2, 1.7), layout="constrained")
    ax = figure.add_subplot()
    draw_coastlines(ax, coastlines)
    truth = prediction["latitude"], prediction["longitude"]
    draw_prediction(ax, np.array(prediction["top_latitude"]), np.array(prediction["top_longitude"]), truth=truth)
    return figure


def summary(empirical: pl.DataFrame, model: Semivariogram, metrics: dict[str, dict]) -> Figure:
    """The semivariogram and the accuracies side by side, for a README."""
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_semivariogram(left, empirical, model)
    left.set_title("How unlike photos are at a distance", loc="left")
    draw_accuracies(right, metrics)
    right.set_title("Where test photos are placed, 95 % intervals", loc="left")
    return figure
