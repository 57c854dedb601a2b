import numpy as np
import pytest
import torch

from stages.cli import InputError
from stages.geo import displace, great_circle_km, unit_vectors
from stages.train.pairs import cosine_distance, pair_lag_km, tabulate

LATITUDE_DEG = np.array([0.0, 90.0, -90.0, 51.5, 51.5, -17.0, -17.0, 10.0])
LONGITUDE_DEG = np.array([0.0, 0.0, 120.0, -0.1, -0.1, 179.999, -179.999, -170.0])


def lags(latitude_deg, longitude_deg):
    vectors = torch.from_numpy(unit_vectors(latitude_deg, longitude_deg))
    return pair_lag_km(vectors[:5], vectors).numpy()


def test_lags_are_great_circle_distances():
    expected = great_circle_km(LATITUDE_DEG[:5, None], LONGITUDE_DEG[:5, None], LATITUDE_DEG, LONGITUDE_DEG)
    # 0.2 m for the rounding of a float64 product, 1e-6 for float32; near the antipode the chord has half of its digits.
    np.testing.assert_allclose(lags(LATITUDE_DEG, LONGITUDE_DEG), expected, rtol=1e-6, atol=5e-4 * 6371)
    near = expected < 19_000
    np.testing.assert_allclose(lags(LATITUDE_DEG, LONGITUDE_DEG)[near], expected[near], rtol=1e-5, atol=2e-4)


def test_lags_of_metres_keep_their_digits():
    walked_km = np.array([0.0, 0.001, 0.01, 0.1, 1.0, 10.0])
    latitude_deg, longitude_deg = displace(np.full(6, 48.0), np.full(6, 11.0), walked_km, np.zeros(6))
    np.testing.assert_allclose(lags(latitude_deg, longitude_deg)[0], walked_km, rtol=1e-5, atol=2e-4)


def test_cosine_distances_are_one_minus_the_products():
    feature = torch.nn.functional.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(1)), dim=1)
    expected = [[1 - float(a.double() @ b.double()) for b in feature] for a in feature[:3]]
    np.testing.assert_allclose(cosine_distance(feature[:3], feature), expected, atol=1e-6)


def test_tables_follow_the_curves_at_every_lag(semivariogram):
    lag_km = np.geomspace(0.001, 20_015, 5000).astype(np.float32).reshape(50, 100)
    found = tabulate(semivariogram).at(torch.from_numpy(lag_km))
    curves = semivariogram.semivariance_at, semivariogram.std_at, semivariogram.correlation_at
    for table, curve in zip(found, curves, strict=True):
        # A row is at most 0.4 % off in lag, and exp(-3h/r) changes by at most exp(-1) for a relative change of h.
        np.testing.assert_allclose(table, curve(lag_km.astype(np.float64)), atol=0.004 * np.exp(-1) * 1.05)


def test_the_tables_have_values_at_lag_zero_and_at_the_antipode(semivariogram):
    semivariance, std, correlation = tabulate(semivariogram).at(torch.tensor([0.0, 1e-9, 20_015.1, 1e9]))
    np.testing.assert_allclose(semivariance, [0.15, 0.15, 0.6, 0.6], atol=1e-5)
    np.testing.assert_allclose(std, [0.1, 0.1, 0.2, 0.2], atol=1e-5)
    np.testing.assert_allclose(correlation, [1, 1, 0, 0], atol=1e-5)


def test_a_semivariogram_without_a_range_is_refused(semivariogram):
    semivariogram.range_km, semivariogram.name = None, "linear"
    with pytest.raises(InputError, match="semivariogram 'linear' has no range.*infonce, distance_soft, hard_negative"):
        tabulate(semivariogram)
