"""Figures of the semivariogram and of what the loss makes of it. draw_* functions add to given axes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from stages.variogram.empirical import EmpiricalSemivariogram
from stages.variogram.groups import Group
from stages.variogram.models import Semivariogram

# Told apart by colour-blind readers (Okabe & Ito, Tol).
MODEL, HARD, FALSE = "#D55E00", "#AA3377", "#0072B2"
# Okabe & Ito without black, which is all photos', and yellow, and two of Tol's; markers tell them apart as well.
GROUPS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#882255", "#999933")
MARKERS = "osD^vP*X"
GREY = "0.35"


def _curve_km(model: Semivariogram) -> np.ndarray:
    return np.geomspace(model.lag_km[0], model.lag_km[-1], 400)


def draw_variogram(ax: Axes, empirical: EmpiricalSemivariogram, model: Semivariogram) -> None:
    """Points shaded by pairs with two block errors, the fitted line with its band; nugget, sill and range marked."""
    filled = empirical.n_pairs > 0
    lag_km, semivariance, n_pairs = (a[filled] for a in (empirical.lag_km, empirical.semivariance, empirical.n_pairs))
    error = 2 * np.nan_to_num(empirical.se_block[filled])
    ax.errorbar(lag_km, semivariance, yerr=error, fmt="none", ecolor="0.6", elinewidth=1, capsize=2, zorder=2)
    points = ax.scatter(
        lag_km, semivariance, c=n_pairs, norm=LogNorm(), cmap="cividis_r", s=34, edgecolor="k", linewidth=0.5, zorder=4
    )
    ax.figure.colorbar(points, ax=ax, label="pairs in the bin", pad=0.015, aspect=30)
    at = _curve_km(model)
    line = model.semivariance_at(at)
    band = 2 * np.interp(np.log(at), np.log(model.lag_km), np.nan_to_num(model.se_model))
    ax.fill_between(at, np.maximum(line - band, 0), line + band, color=MODEL, alpha=0.18, lw=0, zorder=1)
    ax.plot(at, line, color=MODEL, lw=2, zorder=3)
    ax.set(xscale="log", ylabel="semivariance γ(h)  (mean cosine distance)", ylim=(0, None))
    _mark(ax, model)


def _mark(ax: Axes, model: Semivariogram) -> None:
    """Lines at the nugget, the sill and the practical range as far as the model has them."""
    left = {"xy": (0.012, 0), "textcoords": "offset points", "color": GREY, "fontsize": 9}
    levels = [("nugget", model.nugget, (2, 4))]
    if model.range_km is not None:
        levels.append(("sill", model.sill, (2, 4)))
        ax.axvline(model.range_km, color=GREY, lw=1, ls=":")
        ax.annotate(
            f"range {_in_km(model.range_km)}",
            **(left | {"xy": (model.range_km, 0.03)}),
            xytext=(-4, 0), ha="right", xycoords=("data", "axes fraction"),
        )  # fmt: skip
    for name, level, offset in levels:
        ax.axhline(level, color=GREY, lw=1, ls="--")
        ax.annotate(
            f"{name} {level:.3f}", **(left | {"xy": (0.005, level)}), xytext=offset, xycoords=("axes fraction", "data")
        )


def draw_pair_counts(ax: Axes, empirical: EmpiricalSemivariogram) -> None:
    """Bars of the pairs in each lag bin, on log axes."""
    filled = empirical.n_pairs > 0
    # The first bin begins at 0, which a log axis cannot show: draw it from half its mean lag.
    start = np.where(empirical.lag_from_km > 0, empirical.lag_from_km, empirical.lag_km / 2)
    width = empirical.lag_to_km - start
    ax.bar(start[filled], empirical.n_pairs[filled], width[filled], align="edge", color="0.75", edgecolor="w", lw=0.5)
    ax.set(xscale="log", yscale="log", xlabel="great-circle lag h (km)", ylabel="pairs")


def variogram_figure(empirical: EmpiricalSemivariogram, model: Semivariogram) -> Figure:
    """The semivariogram above, its pair counts below."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    draw_variogram(top, empirical, model)
    draw_pair_counts(bottom, empirical)
    top.set_title(describe(model), fontsize=11, loc="left")
    return figure


def describe(model: Semivariogram) -> str:
    """One line: the model and its parts."""
    if model.name == "nugget":
        return "Pure nugget: no spatial structure"
    if model.name == "linear":
        return "Linear: no plateau within these lags"
    shape = "".join(f", {name} {value:.2f}" for name, value in model.shape.items() if model.name != "nested")
    parts = " + ".join(f"{part['partial_sill']:.3f} within {_in_km(part['range_km'])}" for part in model.structures())
    return f"{model.name.capitalize()}{shape}: nugget {model.nugget:.3f} + {parts}; R² {model.r2:.3f}"


def _in_km(lag_km: float) -> str:
    return f"{lag_km:,.0f} km" if lag_km >= 10 else f"{lag_km:.2g} km"


def draw_negatives(
    ax: Axes, lag_km: np.ndarray, distance: np.ndarray, edges_km: np.ndarray, model: Semivariogram
) -> None:
    """Cloud of cosine distance (m,) against lag (m,), with the regions of hard and false negatives below the model's
    line.
    """
    at, first_km = _curve_km(model), model.lag_km[0] / 2  # a log axis cannot show an edge at 0
    edges_km = np.append(first_km, edges_km[edges_km > first_km])
    bins = edges_km, np.linspace(0, max(distance.max(), 1e-3) * 1.02, 90)
    counts, *_ = np.histogram2d(np.maximum(lag_km, first_km), distance, bins)
    cloud = ax.pcolormesh(*bins, np.ma.masked_equal(counts.T, 0), norm=LogNorm(), cmap="Greys", rasterized=True)
    ax.figure.colorbar(cloud, ax=ax, label="sampled pairs", pad=0.015, aspect=30)
    expected, std = model.semivariance_at(at), model.std_at(at)
    ax.plot(at, expected, color=MODEL, lw=2)
    for sign in (-1, 1):
        ax.plot(at, expected + sign * std, color=MODEL, lw=1, ls="--")
    ax.set(xscale="log", xlabel="great-circle lag h (km)", ylabel="cosine distance d of a pair", ylim=(0, bins[1][-1]))
    if model.range_km is None:
        return
    for is_here, colour, name, place in (
        (at <= model.range_km, FALSE, "false negatives\nwithin the range and alike:\npushed less", (0.03, 0.03)),
        (at >= model.range_km, HARD, "hard negatives\nbeyond the range, alike:\npushed harder", (0.97, 0.03)),
    ):
        ax.fill_between(at, 0, expected, where=is_here, color=colour, alpha=0.25, lw=0)
        ax.text(
            *place, name, color=colour, transform=ax.transAxes, ha="left" if place[0] < 0.5 else "right", weight="bold",
            bbox={"facecolor": "w", "alpha": 0.75, "edgecolor": "none"}, fontsize=9,
        )  # fmt: skip
    ax.axvline(model.range_km, color=GREY, lw=1, ls=":")


def negatives_figure(lag_km: np.ndarray, distance: np.ndarray, edges_km: np.ndarray, model: Semivariogram) -> Figure:
    """The cloud of pairs with the regions of the loss."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    ax = figure.subplots()
    draw_negatives(ax, lag_km, distance, edges_km, model)
    ax.set_title(
        "Expected distance γ(h) ± s(h), and what the loss makes of the pairs below it", fontsize=11, loc="left"
    )
    return figure


def draw_group(ax: Axes, group: Group, colour: str, marker: str, width: float) -> None:
    """A group's lag bins as points and its model as a line over the lags fitted on, a bar where it has its range."""
    model = group.model
    label = f"{group.name}: {_range_of(group)} ({group.n_photos:,} photos)"
    ax.plot(model.lag_km, model.semivariance, marker, color=colour, ms=4, alpha=0.45, mew=0)
    ax.plot(_curve_km(model), model.semivariance_at(_curve_km(model)), color=colour, lw=width)
    ax.plot([], [], marker, ls="-", color=colour, lw=width, ms=5, label=label)  # the legend's, line and marker in one
    if group.range_km is not None:
        ax.plot(group.range_km, model.semivariance_at(group.range_km), "|", color=colour, ms=16, mew=2.5)


def _range_of(group: Group) -> str:
    if group.model.name == "nugget":
        return "no structure"
    if group.range_km is None:
        return "range not reached"
    error = "" if group.range_se_km is None else f" ± {_in_km(group.range_se_km)}"
    return f"range {_in_km(group.range_km)}{error}"


def groups_figure(groups: list[Group], whole: Group) -> Figure:
    """The models of the largest groups, those of short range first, and in black that of all photos."""
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    ax = figure.subplots()
    draw_group(ax, whole, "k", "o", 3)
    largest = sorted(groups, key=lambda group: -group.n_photos)[: len(GROUPS)]
    by_range = sorted(largest, key=lambda group: np.inf if group.range_km is None else group.range_km)
    for group, colour, marker in zip(by_range, GROUPS, MARKERS, strict=False):
        draw_group(ax, group, colour, marker, 1.8)
    ax.set(xscale="log", xlabel="great-circle lag h (km)", ylabel="semivariance γ(h)  (mean cosine distance)")
    ax.set_ylim(0, None)
    shown = f"the {len(largest)} largest of {len(groups)} groups" if len(groups) > len(largest) else "each group"
    ax.set_title(f"Semivariograms of all photos and of {shown}; bars mark ranges", fontsize=11, loc="left")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure
