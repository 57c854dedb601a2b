import numpy as np
import pytest

from stages.geo import unit_vectors
from stages.world.fields import exponential_field, smooth_field

R_KM = 6371.0


def places(lags_km):
    """The place (0, 0) and places so far east of it along the equator."""
    longitude = np.degrees(np.array([0, *lags_km]) / R_KM)
    return unit_vectors(np.zeros_like(longitude), longitude)


@pytest.mark.parametrize("range_km", [6.0, 500.0, 3000.0])
def test_rough_fields_have_the_exponential_covariance_of_their_practical_range(range_km):
    lags_km = range_km * np.array([0.05, 1 / 3, 1.0, 3.0])
    at = places(lags_km)
    # 200 draws of frequencies, with 50 fields each: the products' mean has a standard error of about 0.01.
    products = [
        (v := exponential_field(np.random.default_rng(i), range_km, n_waves=64, n_fields=50).at(at))[0] * v[1:]
        for i in range(200)
    ]
    chord_km = np.linalg.norm(at[1:] - at[0], axis=1) * R_KM
    np.testing.assert_allclose(np.mean(products, axis=(0, 2)), np.exp(-3 * chord_km / range_km), atol=0.04)


def test_smooth_fields_have_the_gaussian_covariance_of_their_length():
    at = places([200.0, 700.0, 2000.0])
    values = np.array([smooth_field(np.random.default_rng(i), 700.0, n_waves=16).at(at)[:, 0] for i in range(8000)])
    covariance = (values[:, :1] * values[:, 1:]).mean(axis=0)
    chord_km = np.linalg.norm(at[1:] - at[0], axis=1) * R_KM
    np.testing.assert_allclose(covariance, np.exp(-(chord_km**2) / (2 * 700.0**2)), atol=0.04)


def test_fields_do_not_break_at_the_antimeridian_or_a_pole_and_do_not_depend_on_how_points_are_chunked():
    field = exponential_field(np.random.default_rng(0), 500.0, n_waves=256, n_fields=3)
    seam = unit_vectors(np.array([10.0, 10.0, 90.0, 90.0]), np.array([180.0, -180.0, 0.0, 77.0]))
    values = field.at(seam)
    np.testing.assert_allclose(values[[0, 2]], values[[1, 3]], atol=1e-9)
    many = np.random.default_rng(1).standard_normal((4100, 3))
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    np.testing.assert_allclose(field.at(many)[[0, 2047, 2048, 4099]], field.at(many[[0, 2047, 2048, 4099]]), atol=1e-9)
    assert field.at(many[:0]).shape == (0, 3)
