"""A place's appearance latents: how they vary over the sphere, and the semivariance that they must have."""

import math

import numpy as np
from scipy.special import ndtr

from stages.geo import EARTH_RADIUS_KM
from stages.world.fields import exponential_field

RANGES_KM = (3000.0, 500.0, 60.0, 6.0)  # continental, regional, local, street: practical ranges, in chord distance
N_WAVES = 1024  # of a range; a field's covariance then strays from the exponential by about 1 / sqrt(2 N_WAVES)

# Latent: its variance at each range; they sum to 1.
LATENTS = {
    "vegetation_kind": (0.70, 0.22, 0.05, 0.03),
    "vegetation_density": (0.50, 0.30, 0.12, 0.08),
    "ground_colour": (0.60, 0.30, 0.07, 0.03),
    "building_height": (0.30, 0.35, 0.25, 0.10),
    "building_colour": (0.40, 0.42, 0.13, 0.05),
    "roof_style": (0.45, 0.42, 0.10, 0.03),
    "road_surface": (0.40, 0.38, 0.15, 0.07),
    "pole_style": (0.50, 0.40, 0.10, 0.00),
    "terrain_relief": (0.40, 0.42, 0.13, 0.05),
    "sky_haze": (0.60, 0.30, 0.07, 0.03),
}


def latents(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Appearance latents u = Phi(z) at unit vectors (n, 3): (n, k), uniform on [0, 1].

    z is a sum over the ranges r of independent fields of variance v_r; Phi is the standard normal distribution.
    """
    variances = np.array(list(LATENTS.values()))
    z = np.zeros((len(vectors), len(LATENTS)))
    for index, range_km in enumerate(RANGES_KM):
        rng = np.random.default_rng([seed, index])
        field = exponential_field(rng, range_km, n_waves=N_WAVES, n_fields=len(LATENTS))
        z += np.sqrt(variances[:, index]) * field.at(vectors)
    return ndtr(z)


def describe() -> dict:
    """The truth as JSON values: each latent's name, ranges in km and variances."""
    return {
        "latents": [
            {"name": name, "ranges_km": list(RANGES_KM), "variances": list(variances)}
            for name, variances in LATENTS.items()
        ]
    }


def correlation(lag_km: np.ndarray, truth: dict) -> np.ndarray:
    """Correlation rho of each latent's z at great-circle lags (k,): (n_latents, k), sum_r v_r exp(-3 chord / r)."""
    chord_km = 2 * EARTH_RADIUS_KM * np.sin(np.asarray(lag_km, float) / (2 * EARTH_RADIUS_KM))
    return np.array(
        [
            sum(v * np.exp(-3 * chord_km / r) for v, r in zip(latent["variances"], latent["ranges_km"], strict=True))
            for latent in truth["latents"]
        ]
    )


def gradual_semivariance(rho: np.ndarray) -> np.ndarray:
    """Semivariance, as a share of its sill, of what follows u = Phi(z) in proportion: 1 - 6/pi asin(rho / 2).

    rho: (...), correlation of z at two places.  Returns (...), in [0, 2].  Source: Kruskal (1958), Ordinal Measures of
    Association, on the grade correlation of normal variables.
    """
    return 1 - 6 / math.pi * np.arcsin(np.clip(rho, -1, 1) / 2)


def threshold_semivariance(rho: np.ndarray) -> np.ndarray:
    """Semivariance, as a share of its sill, of what is one thing below the median of u and another above it.

    2/pi acos(rho): the probability acos(rho) / pi that two normal variables differ in sign, over that of independent
    ones.  rho: (...).  Returns (...), in [0, 2].  Source: Sheppard (1899), on the quadrants of a normal distribution.
    """
    return 2 / math.pi * np.arccos(np.clip(rho, -1, 1))
