"""The report's maps."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from stages.evaluate.breakdown import by_cell
from stages.evaluate.maps import (
    PREDICTION,
    draw_close_up,
    draw_coastlines,
    draw_errors,
    draw_prediction,
    draw_shares,
    project,
)

TRAIN_COLOUR = "#56b4e9"
CARD = (2.2, 1.17)  # inches: the page shows it some 150 px wide, so letters and marks are large in it
CLOSE_KM = 500.0  # errors up to it are shown on a closer map
_BARS_KM = [digit * 10.0**power for power in range(-2, 3) for digit in (1, 2, 5)]  # scale bars, 10 m to 500 km


def photo_map(coastlines: pl.DataFrame, places: dict[str, pl.DataFrame]) -> Figure:
    """Where the photos are, a colour a split. places: train and test."""
    figure, ax = _world((10, 5), coastlines)
    # The test photos lie on top, smaller, so that a training photo at the same place is seen around them.
    styles = ((TRAIN_COLOUR, 16), (PREDICTION, 5))
    for (split, table), (colour, area) in zip(places.items(), styles, strict=True):
        x, y = project(table["latitude"].to_numpy(), table["longitude"].to_numpy())
        # rasterized: millions of photos, each a mark in a PDF, would take hundreds of megabytes.
        ax.scatter(x, y, s=area, lw=0, color=colour, label=f"{split}: {len(table):,}", zorder=2, rasterized=True)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=2, frameon=False, markerscale=2)
    return figure


def error_map(coastlines: pl.DataFrame, predictions: pl.DataFrame) -> Figure:
    """The test photos at their true places, coloured by how far off they were placed."""
    figure, ax = _world((10, 5.4), coastlines)
    draw_errors(ax, *_columns(predictions, "latitude", "longitude", "error_km"))
    return figure


def region_map(coastlines: pl.DataFrame, predictions: pl.DataFrame) -> Figure:
    """Accuracy within 200 km of each region of about 500 km."""
    figure, ax = _world((10, 5.4), coastlines)
    cells = by_cell(*_columns(predictions, "latitude", "longitude", "error_km"))
    discs = draw_shares(ax, *_columns(cells, "latitude", "longitude", "accuracy_200km", "count"))
    label = "the region's photos placed within 200 km (%)"
    bar = figure.colorbar(discs, ax=ax, orientation="horizontal", shrink=0.5, pad=0.02, label=label)
    bar.formatter = PercentFormatter(1, symbol="")
    return figure


def prediction_map(coastlines: pl.DataFrame, prediction: dict) -> Figure:
    """One photo's true place and its best places, on the world or, if that would hide the error, on a closer map.

    prediction: a row of the predictions.
    """
    truth = prediction["latitude"], prediction["longitude"]
    top = np.array(prediction["top_latitude"]), np.array(prediction["top_longitude"])
    if not prediction["error_km"] <= CLOSE_KM:  # not >: an error may be NaN
        figure, ax = _world(CARD, coastlines)
        draw_prediction(ax, *top, truth=truth)
        return figure
    figure = Figure(figsize=CARD, layout="constrained")
    ax = figure.add_subplot()
    bar_km = next((km for km in _BARS_KM if km >= prediction["error_km"]), _BARS_KM[-1])
    draw_prediction(ax, *top, truth=truth, project=draw_close_up(ax, coastlines, *truth, 1.2 * bar_km))
    ax.set(xlim=(-2.2 * bar_km, 2.2 * bar_km))  # as wide as the world's
    ax.plot([-2 * bar_km, -bar_km], [-bar_km, -bar_km], color="0.2", lw=1.5, zorder=7)
    text = f"{bar_km:g} km" if bar_km >= 1 else f"{1000 * bar_km:g} m"
    ax.annotate(text, (-2 * bar_km, -bar_km), (0, 2), textcoords="offset points", fontsize=9, color="0.2", zorder=7)
    return figure


def _world(size: tuple[float, float], coastlines: pl.DataFrame) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.add_subplot()
    draw_coastlines(ax, coastlines)
    return figure, ax


def _columns(table: pl.DataFrame, *names: str) -> list[np.ndarray]:
    return [table[name].to_numpy() for name in names]
