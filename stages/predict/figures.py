"""Map pictures of predictions."""

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from stages.evaluate.maps import PREDICTION, draw_close_up, draw_coastlines, draw_prediction, project
from stages.predict.answers import to_rows
from stages.predict.search import NEAR_KM

MAX_NAMED = 20  # photos on a map; more names would hide it
NAME_SIZE = (0.6, 0.1)  # of a long one, in units of the projection
CLOSE_UP_KM = 1000.0  # from the best place to the edges of the closer look


def draw_one(table: pl.DataFrame, coastlines: pl.DataFrame) -> Figure:
    """One photo's places on the world, a closer look at the best one, and a line for each of the best ten.

    table: a row a place, as from answer_table.
    """
    figure = Figure(figsize=(11, 5), layout="constrained")
    world, close = figure.subplots(1, 2, width_ratios=[2.2, 1])
    places = table["latitude"].to_numpy(), table["longitude"].to_numpy()
    draw_coastlines(world, coastlines)
    draw_prediction(world, *places)
    close_project = draw_close_up(close, coastlines, places[0][0], places[1][0], CLOSE_UP_KM)
    draw_prediction(close, *places, project=close_project)
    close.set_title(f"{CLOSE_UP_KM:,.0f} km around the best place", fontsize="small")
    # Not as mathematics: names of photos, and of places, may hold dollar signs.
    world.set_title(table["photo"][0], fontsize="small", parse_math=False)
    lines = [
        "  ".join(filter(None, (f"{rank}.", f"{near} within {NEAR_KM:g} km", area, f"({latitude}, {longitude})")))
        for rank, _, near, latitude, longitude, area in to_rows(table.head(10))
    ]
    figure.supxlabel("\n".join(lines), fontsize="small", x=0.05, ha="left", linespacing=1.5, parse_math=False)
    return figure


def draw_many(table: pl.DataFrame, coastlines: pl.DataFrame) -> Figure:
    """The best places of many photos on the world, with the photos' names if they are few.

    table: a row a place, as from answer_table.
    """
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    ax = figure.subplots()
    draw_coastlines(ax, coastlines)
    best = table.filter(pl.col("rank") == 1)
    x, y = project(best["latitude"].to_numpy(), best["longitude"].to_numpy())
    ax.scatter(x, y, s=60, color=PREDICTION, edgecolors="white", linewidths=0.6, zorder=6)
    if len(best) <= MAX_NAMED:
        for at, names in stacked(x, y, [Path(photo).stem for photo in best["photo"]]):
            ax.annotate(
                names,
                at,
                (0, 7),
                textcoords="offset points",
                ha="center",
                fontsize="x-small",
                zorder=7,
                parse_math=False,
            )
    ax.set_title(f"Best places of {len(best)} photos", fontsize="small")
    return figure


def stacked(x: np.ndarray, y: np.ndarray, names: list[str]) -> list[tuple[tuple[float, float], str]]:
    """Where to write names (n,) of points x, y (n,): those that would hide each other in lines, at the uppermost."""
    found: dict[tuple[float, float], list[str]] = {}
    for row in np.argsort(-y, kind="stable"):
        point = float(x[row]), float(y[row])
        at = next((at for at in found if np.all(np.abs(np.subtract(at, point)) < NAME_SIZE)), point)
        found.setdefault(at, []).append(names[row])
    return [(at, "\n".join(lines)) for at, lines in found.items()]
