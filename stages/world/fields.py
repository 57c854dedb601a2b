"""Gaussian random fields on the unit sphere by random Fourier features in three dimensions.

A field is a weighted sum of plane waves cos(w.x), sin(w.x) at the points x of the sphere. With weights of variance 1
and frequencies w drawn from a spectral density it is Gaussian with variance 1 and, on average over frequencies, the
covariance that has this density: a function of the chord, the straight distance through the ball.
"""

from dataclasses import dataclass

import numpy as np

from stages.geo import EARTH_RADIUS_KM

CHUNK = 2048  # points at a time: the waves of a chunk take some 30 MB


@dataclass(frozen=True)
class Field:
    """Fields over the same plane waves: frequencies (m, 3) in radians a unit of the unit ball, weights (2m, k)."""

    frequencies: np.ndarray
    weights: np.ndarray

    def at(self, vectors: np.ndarray) -> np.ndarray:
        """Values of the k fields at unit vectors (n, 3): (n, k), each of variance 1."""
        values = np.empty((len(vectors), self.weights.shape[1]))
        scaled = self.weights / np.sqrt(len(self.frequencies))
        for start in range(0, len(vectors), CHUNK):
            phases = vectors[start : start + CHUNK] @ self.frequencies.T
            values[start : start + CHUNK] = np.concatenate([np.cos(phases), np.sin(phases)], axis=1) @ scaled
        return values


def exponential_field(rng: np.random.Generator, range_km: float, *, n_waves: int, n_fields: int) -> Field:
    """Rough independent fields with the covariance exp(-3 chord / range_km), whose practical range is range_km.

    The spectral density of exp(-a |x|) is a multivariate t with one degree of freedom and scale a, that is, a normal
    vector divided by the size of a normal number.  Source: Stein (1999), Interpolation of Spatial Data, section 2.10.
    """
    normal = rng.standard_normal((n_waves, 3)) / np.abs(rng.standard_normal((n_waves, 1)))
    return _weighted(rng, normal * 3 * EARTH_RADIUS_KM / range_km, n_fields)


def smooth_field(rng: np.random.Generator, length_km: float, *, n_waves: int) -> Field:
    """One infinitely smooth field with the covariance exp(-chord² / (2 length_km²))."""
    return _weighted(rng, rng.standard_normal((n_waves, 3)) * EARTH_RADIUS_KM / length_km, 1)


def _weighted(rng: np.random.Generator, frequencies: np.ndarray, n_fields: int) -> Field:
    return Field(frequencies, rng.standard_normal((2 * len(frequencies), n_fields)))
