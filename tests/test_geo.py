import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import haversine_distances

from stages import geo

LATITUDES = st.floats(-90, 90)
LONGITUDES = st.floats(-180, 180)
HALF_CIRCUMFERENCE_KM = np.pi * geo.EARTH_RADIUS_KM


def random_places(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)


def test_distances_equal_scikit_learns():
    latitude, longitude = random_places(200)
    radians = np.radians(np.column_stack([latitude, longitude]))
    ours = geo.great_circle_km(latitude[:, None], longitude[:, None], latitude[None], longitude[None])
    np.testing.assert_allclose(ours, haversine_distances(radians) * geo.EARTH_RADIUS_KM, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "expected_km"),
    [
        ((0, 0), (0, 0), 0),
        ((0, 179.5), (0, -179.5), HALF_CIRCUMFERENCE_KM / 180),  # across the antimeridian
        ((90, 0), (90, 123), 0),  # one pole, two longitudes
        ((90, 0), (-90, 0), HALF_CIRCUMFERENCE_KM),
        ((12, 34), (-12, -146), HALF_CIRCUMFERENCE_KM),  # antipodes
        ((0, 0), (0, 90), HALF_CIRCUMFERENCE_KM / 2),
    ],
)
def test_distances_at_special_places(a, b, expected_km):
    a, b = np.asarray(a, float), np.asarray(b, float)
    assert geo.great_circle_km(*a, *b) == pytest.approx(expected_km, abs=1e-6)


@given(LATITUDES, LONGITUDES, LATITUDES, LONGITUDES)
def test_distance_by_chord_equals_the_haversine(lat_a, lon_a, lat_b, lon_b):
    lat, lon = np.array([lat_a, lat_b]), np.array([lon_a, lon_b])
    a, b = geo.unit_vectors(lat, lon)
    haversine_km = geo.great_circle_km(lat[:1], lon[:1], lat[1:], lon[1:])[0]
    # 1 m: near the antipodes an angle has half the digits of its chord.
    assert geo.chord_km(np.sum((a - b) ** 2)) == pytest.approx(haversine_km, abs=1e-3, rel=1e-6)


@given(st.floats(0, HALF_CIRCUMFERENCE_KM))
def test_squared_chord_is_the_inverse_of_chord_km(lag_km):
    assert geo.chord_km(geo.squared_chord(np.float64(lag_km))) == pytest.approx(lag_km, rel=1e-6, abs=1e-3)


def test_coordinates_are_the_inverse_of_unit_vectors():
    latitude, longitude = random_places(1000)
    back = geo.coordinates(7.0 * geo.unit_vectors(latitude, longitude))
    np.testing.assert_allclose(back, (latitude, longitude), atol=1e-9)


@given(LATITUDES, LONGITUDES, st.floats(-5000, 5000), st.floats(-5000, 5000))
def test_a_walk_ends_at_its_length(latitude, longitude, east_km, north_km):
    latitude, longitude, east_km, north_km = (np.array([v]) for v in (latitude, longitude, east_km, north_km))
    there = geo.displace(latitude, longitude, east_km, north_km)
    assert np.isfinite(there).all()
    assert geo.great_circle_km(latitude, longitude, *there) == pytest.approx(
        np.hypot(east_km, north_km), abs=1e-3, rel=1e-6
    )


def test_a_walk_heads_where_it_says():
    latitude, longitude = geo.displace(np.zeros(2), np.full(2, 179.99), np.array([10.0, 0.0]), np.array([0.0, 10.0]))
    assert latitude[0] == pytest.approx(0, abs=1e-9)
    assert longitude[0] < -179.9  # east over the antimeridian
    assert latitude[1] > 0.08
    assert longitude[1] == pytest.approx(179.99)


def test_equal_earth_is_equal_area():
    latitude, longitude = random_places(500, seed=1)
    latitude, longitude = latitude * 0.98, longitude * 0.98
    step = 1e-4
    x_n, y_n = (
        np.subtract(*pair)
        for pair in zip(
            geo.equal_earth(latitude + step, longitude), geo.equal_earth(latitude - step, longitude), strict=True
        )
    )
    x_e, y_e = (
        np.subtract(*pair)
        for pair in zip(
            geo.equal_earth(latitude, longitude + step), geo.equal_earth(latitude, longitude - step), strict=True
        )
    )
    area = (x_e * y_n - x_n * y_e) / (2 * step * geo.DEGREE) ** 2
    np.testing.assert_allclose(area, np.cos(latitude * geo.DEGREE), rtol=1e-5)


def test_equal_earth_at_the_corners_of_the_map():
    # The paper: width over height is 2.05458, the pole line is 0.59247 of the equator.
    (x_east, x_pole), (_, y_pole) = geo.equal_earth(np.array([0.0, 90.0]), np.array([180.0, 180.0]))
    assert x_east / y_pole == pytest.approx(2.05458, abs=1e-5)
    assert x_pole / x_east == pytest.approx(0.59247, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_and_numpy_agree(dtype):
    latitude, longitude = random_places(300, seed=2)
    tensors = torch.tensor(latitude, dtype=dtype), torch.tensor(longitude, dtype=dtype)
    tolerance = 1e-12 if dtype is torch.float64 else 2e-6
    for function in (geo.unit_vectors, geo.equal_earth, lambda *p: geo.displace(*p, p[0], p[1])):
        ours, theirs = function(*tensors), function(latitude, longitude)
        for tensor, array in zip(ours, theirs, strict=True):
            assert tensor.dtype == dtype
            np.testing.assert_allclose(tensor.numpy(), array, rtol=tolerance, atol=360 * tolerance)


def test_the_equidistant_map_keeps_distances_and_directions_from_its_center():
    """A walk to (east, north) ends at the map's (x, y), from the poles and over the antimeridian too."""
    latitude, longitude = random_places(300)
    latitude[:3], longitude[:2] = [90, -90, 0], 179.9
    rng = np.random.default_rng(1)
    length, bearing = rng.uniform(0, 0.999 * HALF_CIRCUMFERENCE_KM, 300), rng.uniform(0, 2 * np.pi, 300)
    walk = length * np.sin(bearing), length * np.cos(bearing)
    there = geo.displace(latitude, longitude, *walk)
    x, y = geo.azimuthal_equidistant_km(*there, latitude, longitude)
    np.testing.assert_allclose((x, y), walk, atol=1e-3)  # 1 m
    np.testing.assert_allclose(np.hypot(x, y), geo.great_circle_km(latitude, longitude, *there), atol=1e-3)


def test_the_equidistant_map_of_a_pole_is_the_polar_one():
    """x = R (90 deg - phi) sin(lam), y = -R (90 deg - phi) cos(lam): Snyder (1987), polar aspect."""
    latitude, longitude = random_places(100)
    radius_km, lam = geo.EARTH_RADIUS_KM * np.radians(90 - latitude), np.radians(longitude)
    x, y = geo.azimuthal_equidistant_km(latitude, longitude, np.float64(90), np.float64(0))
    np.testing.assert_allclose((x, y), (radius_km * np.sin(lam), -radius_km * np.cos(lam)), atol=1e-6)


def test_the_equidistant_map_equals_snyders_example():
    """Snyder (1987), appendix A: radius 3, center 40 N 100 W, 20 S 100 E."""
    xy = geo.azimuthal_equidistant_km(*np.array([-20.0, 100.0, 40.0, -100.0]))
    np.testing.assert_allclose(np.multiply(xy, 3 / geo.EARTH_RADIUS_KM), (-5.8311398, 5.5444634), atol=1e-7)


def test_the_equidistant_maps_center_is_0_and_its_antipode_somewhere():
    center = np.array([10.0, 20.0])
    assert geo.azimuthal_equidistant_km(*center, *center) == (0, 0)
    antipode = geo.azimuthal_equidistant_km(*np.array([-10.0, -160.0]), *center)
    assert np.hypot(*antipode) == pytest.approx(HALF_CIRCUMFERENCE_KM)
