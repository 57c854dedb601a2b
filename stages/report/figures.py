"""The report's charts. draw_* functions add to given axes; the others make a figure of its own."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from stages.evaluate.metrics import THRESHOLDS_KM, accuracy_curve
from stages.params import REFINED
from stages.report.content import DISTANCES, label
from stages.variogram.models import Semivariogram
from stages.world.truth import correlation, gradual_semivariance, threshold_semivariance

# Okabe and Ito's palette, told apart by every kind of colour vision; what needs no training is grey.
COLOURS = {
    "infonce": "#0072b2",
    "semivariogram": "#d55e00",
    "residual_scaling": "#009e73",
    "distance_soft": "#cc79a7",
    "hard_negative": "#e69f00",
    "image_knn": "#666666",
    "most_frequent": "#aaaaaa",
    "best_possible": "#000000",
}
LINE_STYLES = {"image_knn": "--", "most_frequent": "--", "best_possible": ":"}
MARKERS = {"infonce": "s", "semivariogram": "o", "image_knn": "^", "most_frequent": "v"}
MODEL, TRUTH = COLOURS["semivariogram"], COLOURS["infonce"]
LAG_LABEL = "great-circle lag (km)"
CURVE_KM = np.geomspace(0.1, 20_000, 200)


def colour(name: str) -> str:
    """Colour of a loss, of its refined answer, or of a baseline."""
    return COLOURS[name.removesuffix(REFINED)]


def error_curves(errors_km: dict[str, np.ndarray]) -> Figure:
    """Share of the photos within each distance, a line a name."""
    figure, ax = _chart()
    for name, error_km in errors_km.items():
        share = 100 * accuracy_curve(error_km, CURVE_KM)
        width = 1.5 if name in LINE_STYLES else 2
        # A refined answer in its loss's colour, dash-dotted.
        style = LINE_STYLES.get(name, "-." if name.endswith(REFINED) else "-")
        ax.plot(CURVE_KM, share, style, color=colour(name), lw=width, label=label(name))
    for km, name in zip(THRESHOLDS_KM.values(), ("street", "city", "region", "country", "continent"), strict=True):
        ax.axvline(km, color="0.85", lw=0.8, zorder=0)
        at = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom"}
        ax.annotate(name, (km, 1.01), fontsize=9, color="0.35", **at)
    _log_km(ax)
    ax.set(xlabel="distance (km)", ylabel="photos placed within (%)", xlim=CURVE_KM[[0, -1]], ylim=(0, 100))
    ax.legend(frameon=False, loc="best")
    return figure


def draw_accuracies(ax: Axes, metrics: dict[str, dict]) -> None:
    """Accuracy by distance with its 95 % interval, a point a name, side by side at each distance."""
    step = 0.7 / len(metrics)
    for index, (name, values) in enumerate(metrics.items()):
        x = np.arange(len(DISTANCES)) + (index - (len(metrics) - 1) / 2) * step
        value, low, high = (100 * np.array([values[key + end] for key in DISTANCES]) for end in ("", "_low", "_high"))
        style = {"fmt": MARKERS.get(name, "D"), "ms": 4.5, "capsize": 2, "color": colour(name)}
        ax.errorbar(x, value, yerr=(value - low, high - value), label=label(name), **style)
    ax.set_xticks(range(len(DISTANCES)), DISTANCES.values())
    ax.set(xlabel="placed within", ylabel="test photos (%)", ylim=(0, None))
    ax.grid(axis="y", color="0.92")
    ax.set_axisbelow(True)
    # Points of few or many names fill the axes differently; beside them it is always free.
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def draw_semivariogram(ax: Axes, empirical: pl.DataFrame, model: Semivariogram) -> None:
    """The lag bins with two block errors, and the fitted model; empirical has the columns of empirical.csv."""
    _draw_bins(ax, *_bins(empirical), label="lag bins, ± 2 block errors")
    at = np.geomspace(model.lag_km[0], model.lag_km[-1], 300)
    ax.plot(at, model.semivariance_at(at), color=MODEL, lw=2, label=f"fitted: {model.name}")
    if model.range_km is not None:
        ax.axvline(model.range_km, color="0.5", lw=1, ls=":")
        at = {"xy": (model.range_km, 0.03), "xycoords": ("data", "axes fraction")}
        text = f"range {model.range_km:,.0f} km"
        ax.annotate(text, **at, xytext=(-4, 0), textcoords="offset points", ha="right", fontsize=9, color="0.35")
    _log_km(ax)
    top = 1.15 * ax.get_ylim()[1]  # the legend stands above the bins
    ax.set(xlabel=LAG_LABEL, ylabel="semivariance\n(mean cosine distance)", ylim=(0, top))
    ax.legend(frameon=False, loc="upper left")


def against_truth(model: Semivariogram, empirical: pl.DataFrame, truth: dict) -> Figure:
    """The fit and its lag bins, rescaled to nugget 0 and sill 1, over what the world's latents must show.

    model: one with a range.  empirical: as in empirical.csv.  truth: as in the world's truth.json.
    """
    figure, ax = _chart()
    rho = correlation(CURVE_KM, truth)
    gradual, threshold = gradual_semivariance(rho), threshold_semivariance(rho)
    band = gradual.min(axis=0), threshold.max(axis=0)
    ax.fill_between(CURVE_KM, *band, color=TRUTH, alpha=0.12, lw=0, label="truth: all latents, both ways")
    ax.plot(CURVE_KM, threshold.mean(axis=0), color=TRUTH, lw=2, label="truth: mean, read by a threshold")
    ax.plot(CURVE_KM, gradual.mean(axis=0), color=TRUTH, lw=2, ls="--", label="truth: mean, read in proportion")
    at = np.geomspace(model.lag_km[0], model.lag_km[-1], 300)
    ax.plot(at, model.share_at(at), color=MODEL, lw=2, label="fitted to the features")
    lag_km, semivariance, error = _bins(empirical)
    share, error = (semivariance - model.nugget) / model.partial_sill, error / model.partial_sill
    _draw_bins(ax, lag_km, share, error, label="lag bins of the features, ± 2 block errors")
    _log_km(ax)
    ax.set(xlabel=LAG_LABEL, ylabel="share of the sill, nugget left out", xlim=CURVE_KM[[0, -1]], ylim=(-0.05, 1.4))
    ax.legend(frameon=False, loc="upper left")
    return figure


def learning_curves(curves: dict[str, pl.DataFrame]) -> Figure:
    """Validation loss and accuracy within 25 and 200 km over the epochs, a line a loss."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels = {
        "validation_loss": ("validation loss (infonce)", 1),
        "accuracy_25km": ("validation, within 25 km (%)", 100),
        "accuracy_200km": ("validation, within 200 km (%)", 100),
    }
    for ax, (column, (axis_label, scale)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name, curve in curves.items():
            ax.plot(curve["epoch"], scale * curve[column], ".-", color=COLOURS[name], lw=2, label=label(name))
        ax.set(xlabel="epoch", ylabel=axis_label)
        ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return figure


def summary(empirical: pl.DataFrame, model: Semivariogram, metrics: dict[str, dict]) -> Figure:
    """The semivariogram and the accuracies side by side, for a README: legible at 800 px."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_semivariogram(left, empirical, model)
    left.set_title("How unlike photos are at a distance", loc="left", fontsize=11)
    draw_accuracies(right, metrics)
    right.set_title("Test photos placed within a distance, 95 % intervals", loc="left", fontsize=11)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _chart() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.add_subplot()
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def _log_km(ax: Axes) -> None:
    """A log axis of km, labelled 0.1, 1, ... 10,000."""
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda km, _: f"{km:,.6g}")
    ax.xaxis.set_minor_formatter(NullFormatter())


def _bins(empirical: pl.DataFrame) -> list[np.ndarray]:
    """Lag, semivariance and block error of each bin; 0 for a bin without a block error."""
    # cast: a column of nulls comes back from a CSV as text.
    columns = (empirical[name].cast(pl.Float64).fill_null(0) for name in ("lag_km", "semivariance", "se_block"))
    return [column.to_numpy() for column in columns]


def _draw_bins(ax: Axes, lag_km: np.ndarray, semivariance: np.ndarray, error: np.ndarray, *, label: str) -> None:
    style = {"fmt": "o", "ms": 4, "color": "0.35", "ecolor": "0.78", "zorder": 2}
    ax.errorbar(lag_km, semivariance, yerr=2 * error, label=label, **style)
