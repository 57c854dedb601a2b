"""World maps, and close-ups of them, on given matplotlib axes, with coastlines from a table."""

from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from stages.evaluate.metrics import THRESHOLDS_KM
from stages.geo import azimuthal_equidistant_km, coordinates, equal_earth, unit_vectors

OCEAN, LAND_EDGE, GRATICULE, OUTLINE = "#f4f7fa", "#9aa5b1", "#e1e7ee", "#8794a3"
# Okabe and Ito's blue and vermilion: told apart by every kind of colour vision.
TRUTH, PREDICTION = "#0072b2", "#d55e00"

# One colour for each class of error, from at most 1 km to over 2500 km; their lightness rises too, so grey print works.
_PLASMA = ["#0d0887", "#5c01a6", "#9c179e", "#cc4778", "#ed7953", "#e8c20a"]
ERROR_COLOURS = ListedColormap(_PLASMA)
_KM = list(THRESHOLDS_KM.values())
_BETWEEN = (f"{low:,g}–{high:,g} km" for low, high in zip(_KM, _KM[1:], strict=False))
ERROR_LABELS = [f"≤ {_KM[0]:,g} km", *_BETWEEN, f"> {_KM[-1]:,g} km"]


def project(latitude_deg: np.ndarray, longitude_deg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map coordinates (x, y) of places, for anything that a caller draws itself. Both (...). Returns two (...)."""
    return equal_earth(np.asarray(latitude_deg, float), np.asarray(longitude_deg, float))


def cut_at_antimeridian(latitude_deg: np.ndarray, longitude_deg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A polyline that ends at ±180° and goes on at ∓180° wherever it crosses the antimeridian.

    Both (n,); NaN separates lines.  Returns two (m,), m = n + 3 per crossing: the edge, a NaN and the other edge.
    """
    step = np.diff(longitude_deg)
    before = np.flatnonzero(np.abs(step) > 180)
    side = np.sign(longitude_deg[before])
    to_edge = 180 - np.abs(longitude_deg[before])
    beyond = 180 - np.abs(longitude_deg[before + 1])
    # A line along the antimeridian may hop from -180 to 180: then both are 0 and any share is right.
    share = to_edge / np.maximum(to_edge + beyond, 1e-12)
    crossing = latitude_deg[before] + share * (latitude_deg[before + 1] - latitude_deg[before])
    at = np.repeat(before + 1, 3)
    gap = np.full_like(crossing, np.nan)
    return (
        np.insert(latitude_deg, at, np.stack([crossing, gap, crossing], axis=1).ravel()),
        np.insert(longitude_deg, at, np.stack([180 * side, gap, -180 * side], axis=1).ravel()),
    )


def great_circle(
    latitude_deg: float, longitude_deg: float, other_latitude_deg: float, other_longitude_deg: float, n: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Places, n of them, along the shortest way between two, in degrees; of antipodes, one of the shortest ways."""
    a, b = unit_vectors(
        np.array([latitude_deg, other_latitude_deg], float), np.array([longitude_deg, other_longitude_deg], float)
    )
    sideways = b - (a @ b) * a
    length = np.linalg.norm(sideways)
    if length < 1e-9:  # the same place or its antipode: any direction will do
        sideways = np.cross(a, np.eye(3)[np.argmin(np.abs(a))])
        length = np.linalg.norm(sideways)
    angle = np.linspace(0, np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b), n)[:, None]
    return coordinates(np.cos(angle) * a + np.sin(angle) * sideways / length)


def draw_line(ax: Axes, latitude_deg: np.ndarray, longitude_deg: np.ndarray, **style) -> None:
    """Draw a polyline of places, cut at the antimeridian; style goes to matplotlib's plot."""
    ax.plot(*project(*cut_at_antimeridian(latitude_deg, longitude_deg)), **style)


def draw_coastlines(ax: Axes, coastlines: pl.DataFrame) -> None:
    """Draw an empty world: its outline, a graticule of 30 degrees and the coasts.

    coastlines: columns line (a number, rows of one line together), latitude, longitude in degrees.
    """
    up, along = np.linspace(-90, 90, 181), np.linspace(-180, 180, 361)
    edge_latitude = np.concatenate([up, up[::-1]])
    edge_longitude = np.repeat([180.0, -180.0], len(up))
    ax.fill(*project(edge_latitude, edge_longitude), facecolor=OCEAN, edgecolor=OUTLINE, linewidth=0.8, zorder=0)
    for longitude in range(-150, 180, 30):
        ax.plot(*project(up, np.full_like(up, longitude)), color=GRATICULE, linewidth=0.5, zorder=0.5)
    for latitude in range(-60, 90, 30):
        ax.plot(*project(np.full_like(along, latitude), along), color=GRATICULE, linewidth=0.5, zorder=0.5)
    draw_line(ax, *_polylines(coastlines), color=LAND_EDGE, linewidth=0.5, zorder=1)
    ax.set_aspect("equal")
    ax.set_axis_off()


def _polylines(coastlines: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes of all lines, one after the other, with NaN between them."""
    starts = np.flatnonzero(np.diff(coastlines["line"].to_numpy())) + 1
    columns = (coastlines[name].to_numpy().astype(float) for name in ("latitude", "longitude"))
    return tuple(np.insert(column, starts, np.nan) for column in columns)


def draw_close_up(
    ax: Axes, coastlines: pl.DataFrame, latitude_deg: float, longitude_deg: float, radius_km: float
) -> Callable:
    """Draw an empty map of what surrounds a place, in km, with a graticule of 5 degrees and the coasts.

    It is azimuthal equidistant: distances and directions from the place are true, and each edge is radius_km away.
    Returns its `project`, for draw_prediction.
    """
    close_to = partial(
        azimuthal_equidistant_km,
        center_latitude_deg=np.float64(latitude_deg),
        center_longitude_deg=np.float64(longitude_deg),
    )
    up, along = np.linspace(-85, 85, 341), np.linspace(-180, 180, 721)
    meridians = [(up, np.full_like(up, longitude)) for longitude in range(-180, 180, 5)]
    parallels = [(np.full_like(along, latitude), along) for latitude in range(-85, 90, 5)]
    for line in (*meridians, *parallels):
        ax.plot(*_within(3 * radius_km, *close_to(*line)), color=GRATICULE, linewidth=0.5, zorder=0.5)
    ax.plot(*_within(3 * radius_km, *close_to(*_polylines(coastlines))), color=LAND_EDGE, linewidth=0.7, zorder=1)
    ax.set(xlim=(-radius_km, radius_km), ylim=(-radius_km, radius_km), xticks=[], yticks=[], facecolor=OCEAN)
    ax.set_aspect("equal")
    ax.spines[:].set_color(OUTLINE)
    return close_to


def _within(distance: float, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Line points (n,) without those farther from 0: a line to the far side would cross the map on its way."""
    is_far = ~(np.hypot(x, y) <= distance)
    return np.where(is_far, np.nan, x), np.where(is_far, np.nan, y)


def draw_errors(ax: Axes, latitude_deg: np.ndarray, longitude_deg: np.ndarray, error_km: np.ndarray) -> None:
    """Draw photos at their true places, coloured by the class of their error, with a legend. All (n,)."""
    error_class = np.digitize(error_km, list(THRESHOLDS_KM.values()), right=True)
    x, y = project(latitude_deg, longitude_deg)
    for index, (colour, label) in enumerate(zip(ERROR_COLOURS.colors, ERROR_LABELS, strict=True)):
        # An empty series keeps the legend the same on every map; the drawing order below does not follow the classes.
        ax.scatter([], [], s=14, color=colour, label=f"{label}: {100 * np.mean(error_class == index):.0f} %")
    ax.scatter(
        x,
        y,
        s=7,
        c=error_class,
        cmap=ERROR_COLOURS,
        vmin=0,
        vmax=len(ERROR_LABELS) - 1,
        linewidths=0,
        alpha=0.8,
        zorder=2,
        rasterized=True,  # or every photo is a mark in a PDF
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=len(ERROR_LABELS), frameon=False, fontsize="small")


def draw_shares(ax: Axes, latitude_deg: np.ndarray, longitude_deg: np.ndarray, share: np.ndarray, count: np.ndarray):
    """Draw a disc per region, coloured by a share in [0, 1], whose width grows with the region's photos; with a legend.

    All (n,).  Returns the discs, for the caller's colour bar.
    """

    def area(count: np.ndarray | int) -> np.ndarray:
        return 12 + 160 * np.sqrt(count / largest)  # in square points

    largest = int(count.max())
    for n in sorted({1, max(1, largest // 10), largest}):
        label = f"{n:,} photo{'s' if n != 1 else ''}"
        ax.scatter([], [], s=area(n), facecolors="none", edgecolors="0.35", linewidths=0.8, label=label)
    ax.legend(loc="lower left", frameon=False, fontsize="small", labelspacing=0.9)
    x, y = project(latitude_deg, longitude_deg)
    return ax.scatter(
        x,
        y,
        s=area(count),
        c=share,
        cmap="cividis",
        vmin=0,
        vmax=1,
        alpha=0.85,
        edgecolors="white",
        linewidths=0.4,
        zorder=2,
    )


def draw_prediction(
    ax: Axes,
    top_latitude_deg: np.ndarray,
    top_longitude_deg: np.ndarray,
    *,
    truth: tuple[float, float] | None = None,
    project: Callable = project,
) -> None:
    """Draw the best places of one photo, the very best largest, and if known its true place and the way to it.

    top_latitude_deg, top_longitude_deg: (k,).  truth: (latitude, longitude) in degrees.
    project: of the map, as draw_close_up gives it.
    """
    if truth:
        way = cut_at_antimeridian(*great_circle(*truth, top_latitude_deg[0], top_longitude_deg[0]))
        ax.plot(*project(*way), color=TRUTH, linewidth=1, zorder=3)
        ax.scatter(*project(*truth), marker="*", s=90, color=TRUTH, edgecolors="white", linewidths=0.6, zorder=6)
    # The best last, so that it lies on top; below a star all the same.
    x, y = project(np.asarray(top_latitude_deg, float)[::-1], np.asarray(top_longitude_deg, float)[::-1])
    is_best = np.arange(len(x)) == len(x) - 1
    ax.scatter(
        x,
        y,
        s=np.where(is_best, 60, 30),
        color=PREDICTION,
        alpha=np.where(is_best, 1, 0.6),
        edgecolors="white",
        linewidths=0.6,
        zorder=5.9,
    )
