"""Ours, GSTools' and scikit-gstat's fits to the same photos: the others are told the true model, ours has to choose."""

from dataclasses import dataclass

import gstools
import numba
import numpy as np
import skgstat
from scipy.spatial.distance import pdist

from stages.geo import EARTH_RADIUS_KM, unit_vectors
from stages.variogram.empirical import estimate
from stages.variogram.fit import fit
from stages.variogram.models import MODELS


@dataclass(frozen=True)
class Found:
    """A fit: nugget, sill, practical range, and the ranges of its one or two exponentials, () if it has others."""

    nugget: float
    sill: float
    range_km: float
    parts_km: tuple[float, ...]


def practical_range_km(partial_sills: list[float], ranges_km: list[float]) -> float:
    """Smallest lag at which a sum of exponentials reaches 95 % of its partial sill, to 0.1 %."""
    lag_km = np.geomspace(1e-3, 1e6, 20_000)
    parts = [sill * -np.expm1(-np.log(20) * lag_km / km) for sill, km in zip(partial_sills, ranges_km, strict=True)]
    return float(lag_km[(sum(parts) >= 0.95 * sum(partial_sills)).argmax()])


def exponentials(nugget: float, partial_sills: list[float], ranges_km: list[float]) -> Found:
    """A sum of exponentials."""
    range_km = practical_range_km(partial_sills, ranges_km)
    return Found(nugget, nugget + sum(partial_sills), range_km, tuple(sorted(ranges_km)))


def ours(latitude, longitude, features, n_structures: int, edges_km) -> Found:
    """The best of all models."""
    model = fit(estimate(latitude, longitude, features, edges_km=edges_km), list(MODELS))
    is_right = model.name == ("exponential", "nested")[n_structures - 1]
    parts_km = tuple(part["range_km"] for part in model.structures()) if is_right else ()
    return Found(model.nugget, model.sill, model.range_km or np.nan, parts_km)


def with_gstools(latitude, longitude, features, n_structures: int, edges_km) -> Found:
    """GSTools' own estimate and fit of exponentials."""
    where = {"latlon": True, "geo_scale": EARTH_RADIUS_KM}
    centre, gamma = gstools.vario_estimate((latitude, longitude), list(features.T), edges_km.copy(), **where)
    model = gstools.SumModel(*[gstools.Exponential] * n_structures, **where)
    model.fit_variogram(centre, gamma * features.shape[1])  # it averages over the variables
    ranges_km = [part.len_scale * np.log(20) for part in model.models]
    return exponentials(model.nugget, [part.var for part in model.models], ranges_km)


@numba.njit
def great_circle(a, b):
    """Great-circle distance (km) of two unit vectors (3,)."""
    squared_chord = 0.0
    for axis in range(3):
        squared_chord += (a[axis] - b[axis]) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(min(1.0, squared_chord**0.5 / 2))


def with_scikit_gstat(latitude, longitude, features, n_structures: int, edges_km) -> Found:
    """scikit-gstat's own fit of exponentials, at the upper edges of its own bins."""
    variogram = skgstat.Variogram(
        unit_vectors(latitude, longitude),
        features[:, 0],
        bin_func=edges_km[1:],
        dist_func=great_circle,
        model="+".join(["exponential"] * n_structures),
        use_nugget=True,
    )
    # What its multivariate="aggregate" makes of all variables, in a hundredth of the memory.
    variogram._diff = pdist(features)
    variogram.fit()
    *parts, nugget = variogram.cof
    return exponentials(nugget, parts[1::2], parts[::2])
