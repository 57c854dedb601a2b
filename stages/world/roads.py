"""Drives along roads through and between towns, and the places where they took photos."""

import numpy as np
import polars as pl
from scipy.spatial import cKDTree

from stages.geo import EARTH_RADIUS_KM, displace, squared_chord, unit_vectors
from stages.world.geography import SHORE, Land

COUNTRY_SHARE = 0.3  # of the drives that run between towns
MAX_FRAMES = 40
MEAN_FRAMES = {"train": 4.0, "test": 2.0}  # test photos are fewer, so they are spread over more drives
# Between test photos and training photos. OSV5M keeps 1 km; then no training place could be right to within 1 km, and
# the street accuracy of a retrieval among them would be 0 for every model.
APART_KM = 0.1


def drive(rng: np.random.Generator, towns: pl.DataFrame, n: int, mean_frames: float) -> pl.DataFrame:
    """Frames of n drives: columns drive (0 to n - 1), latitude, longitude in degrees, in the order of driving.

    Frames are 50 to 500 m apart along a smoothly bending road.
    """
    latitude, longitude, bearing = _starts(rng, towns, n)
    n_frames = np.minimum(rng.geometric(1 / mean_frames, n), MAX_FRAMES)
    step_km = np.clip(rng.lognormal(np.log(0.15), 0.6, n), 0.05, 0.5)
    bend = np.zeros(n)
    frames = []
    for frame in range(n_frames.max(initial=0)):
        on = frame < n_frames
        frames.append(pl.DataFrame({"drive": np.flatnonzero(on), "latitude": latitude[on], "longitude": longitude[on]}))
        bend = 0.8 * bend + rng.normal(0, 0.07, n)
        bearing = bearing + bend
        latitude, longitude = displace(latitude, longitude, step_km * np.sin(bearing), step_km * np.cos(bearing))
    return pl.concat(frames).sort("drive", maintain_order=True)


def _starts(rng: np.random.Generator, towns: pl.DataFrame, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latitude, longitude (degrees) and bearing (radians) at which n drives begin: three (n,)."""
    latitude, longitude, weight = (towns[name].to_numpy() for name in ("lat", "lon", "weight"))
    vectors = unit_vectors(latitude, longitude)
    town = rng.choice(len(towns), n, p=weight)
    # In a town: about its centre, wider where the town is larger.
    radius_km = 1.5 + 60 * np.sqrt(weight[town])
    east, north = rng.standard_normal((2, n)) * radius_km
    bearing = rng.uniform(0, 2 * np.pi, n)
    # Between towns: anywhere on the way to one of the nearest towns, along that way.
    near = cKDTree(vectors).query(vectors[town], k=min(5, len(towns)))[1][:, 1:]
    other = near[np.arange(n), rng.integers(near.shape[1], size=n)]
    road_east, road_north = _offset_km(latitude, longitude, town, other)
    share = rng.random(n)
    is_between = rng.random(n) < COUNTRY_SHARE
    east = np.where(is_between, share * road_east + rng.normal(0, 1, n), east)
    north = np.where(is_between, share * road_north + rng.normal(0, 1, n), north)
    bearing = np.where(is_between, np.arctan2(road_east, road_north), bearing)
    return *displace(latitude[town], longitude[town], east, north), bearing


def _offset_km(
    latitude: np.ndarray, longitude: np.ndarray, row: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """East and north offset in km from one town to another near it, in the plane that touches the sphere there."""
    phi, lam = np.radians(latitude[row]), np.radians(longitude[row])
    step = EARTH_RADIUS_KM * (
        unit_vectors(latitude[other], longitude[other]) - unit_vectors(latitude[row], longitude[row])
    )
    east = -np.sin(lam) * step[:, 0] + np.cos(lam) * step[:, 1]
    north = -np.sin(phi) * (np.cos(lam) * step[:, 0] + np.sin(lam) * step[:, 1]) + np.cos(phi) * step[:, 2]
    return east, north


def photo_places(
    land: Land, towns: pl.DataFrame, n: int, *, split: str, seed: int, away_from: np.ndarray | None = None
) -> pl.DataFrame:
    """Places of n photos of a split: columns drive, latitude, longitude (degrees), all on land.

    away_from: unit vectors (m, 3) of places that no photo may come closer to than APART_KM.
    """
    rng = np.random.default_rng([seed, 400, list(MEAN_FRAMES).index(split)])
    tree = None if away_from is None else cKDTree(away_from)
    parts, n_drives, n_found = [], 0, 0
    while n_found < n:
        more = 100 + int((n - n_found) / MEAN_FRAMES[split])
        frames = drive(rng, towns, more, MEAN_FRAMES[split]).with_columns(pl.col("latitude", "longitude").round(7))
        vectors = unit_vectors(frames["latitude"].to_numpy(), frames["longitude"].to_numpy())
        is_good = land.height(vectors) > SHORE
        if tree is not None:
            is_good &= tree.query(vectors)[0] ** 2 > squared_chord(np.float64(APART_KM))
        frames = frames.filter(is_good).with_columns(pl.col("drive") + n_drives)
        parts.append(frames)
        n_drives += more
        n_found += len(frames)
    return pl.concat(parts).head(n)
