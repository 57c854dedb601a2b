import numpy as np
import pytest

from stages.geo import coordinates, great_circle_km


def scattered_places(n, seed, n_towns=150):
    """Latitude and longitude (n,) of photos in towns of unequal size in a dozen countries: lags of every size."""
    rng = np.random.default_rng(seed)
    countries = rng.normal(size=(12, 3))
    countries /= np.linalg.norm(countries, axis=1, keepdims=True)
    towns = countries[rng.integers(0, 12, n_towns)] + 0.25 * rng.normal(size=(n_towns, 3))
    towns /= np.linalg.norm(towns, axis=1, keepdims=True)
    size = rng.pareto(1.2, n_towns) + 0.1
    places = towns[rng.choice(n_towns, n, p=size / size.sum())]
    return coordinates(places + rng.normal(size=(n, 3)) * 10 ** rng.uniform(-5, -2, (n, 1)))


def simulated_features(latitude, longitude, nugget, structures, seed, width=128):
    """Unit features (n, width) with semivariogram nugget + sum of partial_sill (1 - exp(-ln 20 h / range_km))."""
    rng = np.random.default_rng(seed)
    lag_km = great_circle_km(latitude[:, None], longitude[:, None], latitude, longitude)
    covariance = nugget * np.eye(len(latitude))
    for partial_sill, range_km in structures:
        covariance += partial_sill * np.exp(-np.log(20) * lag_km / range_km)
    sill = nugget + sum(partial_sill for partial_sill, _ in structures)
    features = np.linalg.cholesky(covariance) @ rng.normal(size=(len(latitude), width)) / width**0.5
    features[:, 0] += (1 - sill) ** 0.5  # a common part brings the expected length to 1
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.fixture
def scatter():
    return scattered_places


@pytest.fixture
def simulate():
    return simulated_features
