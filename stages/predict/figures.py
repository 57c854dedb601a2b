"""Map pictures of predictions."""

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from stages.evaluate.maps import draw_coastlines, draw_prediction, project
from stages.geo import EARTH_RADIUS_KM
from stages.predict.answers import to_rows

MAX_NAMED = 20  # photos on a map; more names would hide each other
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
    for latitude, longitude, photo in best.select("latitude", "longitude", "photo").rows():
        draw_prediction(ax, [latitude], [longitude])
        if len(best) <= MAX_NAMED:
            ax.annotate(
                Path(photo).stem, project(latitude, longitude), (0, 7), textcoords="offset points",
                ha="center", fontsize="x-small", zorder=7,
            )  # fmt: skip
    ax.set_title(f"Best places of {len(best)} photos", fontsize="small")
    return figure
