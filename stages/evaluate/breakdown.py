"""Where predictions are good and where not: the metrics by country, by density of training places and by map cell."""

import numpy as np
import polars as pl
from scipy.spatial import cKDTree

from stages.evaluate.metrics import THRESHOLDS_KM
from stages.geo import EARTH_RADIUS_KM, coordinates, equal_earth, squared_chord, unit_vectors

DENSITY_RADIUS_KM = 25.0
DENSITY_CLASSES = [0, 1, 10, 100, 1000]  # lower ends of the classes of training places within the radius


def by_group(group: np.ndarray | pl.Series, error_km: np.ndarray) -> pl.DataFrame:
    """Accuracies by distance and the median error of each group, the largest group first.

    group: (n,) of any type, null for photos that belong nowhere and are left out.  error_km: (n,).
    Returns group, count, accuracy_1km ... accuracy_2500km, median_error_km.
    """
    error = pl.col("error_km")
    accuracies = [(error <= km).mean().alias(key) for key, km in THRESHOLDS_KM.items()]
    return (
        pl.DataFrame({"group": group, "error_km": error_km})
        .drop_nulls("group")
        .group_by("group")
        .agg(pl.len().alias("count"), *accuracies, error.median().alias("median_error_km"))
        .sort("count", "group", descending=[True, False])
    )


def density(
    latitude_deg: np.ndarray,
    longitude_deg: np.ndarray,
    training_latitude_deg: np.ndarray,
    training_longitude_deg: np.ndarray,
) -> np.ndarray:
    """Number of training places within 25 km of each place. The first two (n,), the others (m,). Returns (n,) int."""
    tree = cKDTree(unit_vectors(training_latitude_deg, training_longitude_deg))
    radius = float(np.sqrt(squared_chord(np.float64(DENSITY_RADIUS_KM))))
    return tree.query_ball_point(unit_vectors(latitude_deg, longitude_deg), radius, return_length=True)


def by_density(n_near: np.ndarray, error_km: np.ndarray) -> pl.DataFrame:
    """The metrics by class of density, the emptiest class first. n_near: (n,), as from density; error_km: (n,).

    Returns by_group's columns; group is the lower end of the class: 0, 1, 10, 100 or 1000 training places.
    """
    lower_end = np.array(DENSITY_CLASSES)[np.digitize(n_near, DENSITY_CLASSES) - 1]
    return by_group(lower_end, error_km).sort("group")


def by_cell(
    latitude_deg: np.ndarray, longitude_deg: np.ndarray, error_km: np.ndarray, cell_km: float = 500.0
) -> pl.DataFrame:
    """The metrics by square of the Equal Earth map, with the mean place of the square's photos, for a map. All (n,).

    Returns by_group's columns (group is the square's number), latitude and longitude.
    """
    x, y = equal_earth(latitude_deg, longitude_deg)
    cells = np.floor(np.column_stack([x, y]) * EARTH_RADIUS_KM / cell_km).astype(np.int64)
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    vectors = unit_vectors(latitude_deg, longitude_deg)
    mean = np.column_stack([np.bincount(cell, weights=vectors[:, axis]) for axis in range(3)])
    latitude, longitude = coordinates(mean)
    middle = pl.DataFrame({"group": np.arange(len(mean)), "latitude": latitude, "longitude": longitude})
    return by_group(cell, error_km).join(middle, on="group", how="left", maintain_order="left")
