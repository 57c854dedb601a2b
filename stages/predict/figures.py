"""Map pictures of predictions."""

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from stages.evaluate.maps import draw_coastlines, draw_prediction, project
from stages.geo import EARTH_RADIUS_KM
from stages.predict.answers import to_rows

MAX_NAMED = 20  # photos on a map; more names would hide it
NAME_SIZE = (0.6, 0.1)  # of a long one, in units of the projection
CLOSE_UP_KM = 1000.0  # from the best place to the edges of the closer look


def draw_one(table: pl.DataFrame, coastlines: pl.DataFrame) -> Figure:
    """One photo's places on the world, a closer look at the best one, and a line for each of the best ten.

    table: a row a place, as from answer_table.
    """
    figure = Figure(figsize=(11, 5), layout="constrained")
    world, close = figure.subplots(1, 2, width_ratios=[2.2, 1])
    half = CLOSE_UP_KM / EARTH_RADIUS_KM
    # The closer look has its own central meridian: north is up wherever it lies.
    for ax, meridian_deg in ((world, 0.0), (close, table["longitude"][0])):
        places, coasts = (_seen_from(meridian_deg, frame) for frame in (table, coastlines))
        draw_coastlines(ax, coasts)
        draw_prediction(ax, places["latitude"].to_numpy(), places["longitude"].to_numpy())
    _, y = project(table["latitude"][0], 0.0)
    close.set(xlim=(-half, half), ylim=(y - half, y + half), xticks=[], yticks=[])
    close.set_axis_on()
    close.set_title(f"{CLOSE_UP_KM:g} km around the best place", fontsize="small")
    world.set_title(table["photo"][0], fontsize="small")
    lines = [f"{rank}.  {share}  {area}  ({lat}, {lon})" for rank, share, lat, lon, area in to_rows(table.head(10))]
    figure.supxlabel("\n".join(lines), fontsize="small", x=0.05, ha="left", linespacing=1.5)
    return figure


def _seen_from(meridian_deg: float, places: pl.DataFrame) -> pl.DataFrame:
    """The places with longitudes in degrees from another central meridian, in [-180, 180)."""
    return places.with_columns((pl.col("longitude") - meridian_deg + 180) % 360 - 180)


def draw_many(table: pl.DataFrame, coastlines: pl.DataFrame) -> Figure:
    """The best places of many photos on the world, with the photos' names if they are few.

    table: a row a place, as from answer_table.
    """
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    ax = figure.subplots()
    draw_coastlines(ax, coastlines)
    best = table.filter(pl.col("rank") == 1)
    for latitude, longitude in best.select("latitude", "longitude").rows():
        draw_prediction(ax, [latitude], [longitude])
    if len(best) <= MAX_NAMED:
        x, y = project(best["latitude"].to_numpy(), best["longitude"].to_numpy())
        for at, names in stacked(x, y, [Path(photo).stem for photo in best["photo"]]):
            ax.annotate(names, at, (0, 7), textcoords="offset points", ha="center", fontsize="x-small", zorder=7)
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
