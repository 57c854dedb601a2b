"""The report's maps."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.evaluate.breakdown import by_cell
from stages.evaluate.maps import PREDICTION, draw_coastlines, draw_errors, draw_prediction, draw_shares, project

TRAIN_COLOUR = "#56b4e9"


def photo_map(coastlines: pl.DataFrame, places: dict[str, pl.DataFrame]) -> Figure:
    """Where the photos are, a colour a split. places: train and test."""
    figure, ax = _world((10, 5), coastlines)
    for (split, table), colour in zip(places.items(), (TRAIN_COLOUR, PREDICTION), strict=True):
        x, y = project(table["latitude"].to_numpy(), table["longitude"].to_numpy())
        # rasterized: millions of photos, each a mark in a PDF, would take hundreds of megabytes.
        ax.scatter(x, y, s=5, lw=0, color=colour, label=f"{split}: {len(table):,}", zorder=2, rasterized=True)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=2, frameon=False, markerscale=3)
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
    label = "share of the region's photos within 200 km"
    figure.colorbar(discs, ax=ax, orientation="horizontal", shrink=0.5, pad=0.02, label=label)
    return figure


def prediction_map(coastlines: pl.DataFrame, prediction: dict) -> Figure:
    """One photo's true place and its best places. prediction: a row of the predictions."""
    figure, ax = _world((3.2, 1.7), coastlines)
    truth = prediction["latitude"], prediction["longitude"]
    draw_prediction(ax, np.array(prediction["top_latitude"]), np.array(prediction["top_longitude"]), truth=truth)
    return figure


def _world(size: tuple[float, float], coastlines: pl.DataFrame) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.add_subplot()
    draw_coastlines(ax, coastlines)
    return figure, ax


def _columns(table: pl.DataFrame, *names: str) -> list[np.ndarray]:
    return [table[name].to_numpy() for name in names]
