import numpy as np
import pytest
from sklearn.metrics.pairwise import haversine_distances

from stages.evaluate import breakdown
from stages.geo import EARTH_RADIUS_KM


def test_groups_have_their_own_metrics_and_no_group_is_left_out_of_them():
    table = breakdown.by_group(["FR", None, "FR", "NO", "FR"], np.array([0.5, 1.0, 100.0, 3000.0, 20.0]))
    assert table["group"].to_list() == ["FR", "NO"]
    france = table.row(0, named=True)
    assert france["count"] == 3
    assert france["accuracy_1km"] == pytest.approx(1 / 3)
    assert france["accuracy_25km"] == pytest.approx(2 / 3)
    assert france["median_error_km"] == 20
    assert table.row(1, named=True)["accuracy_2500km"] == 0


def test_density_counts_the_training_places_within_25_km():
    rng = np.random.default_rng(0)
    # Around a pole and the antimeridian, a few dozen km across.
    latitude, longitude = rng.uniform(89.3, 90, 300), rng.uniform(-180, 180, 300)
    latitude[150:], longitude[150:] = rng.uniform(-0.5, 0.5, 150), 180 - rng.uniform(0, 0.5, 150)
    longitude[200:] *= -1
    radians = np.radians(np.column_stack([latitude, longitude]))
    km = haversine_distances(radians[:50], radians) * EARTH_RADIUS_KM
    near = breakdown.density(latitude[:50], longitude[:50], latitude, longitude)
    np.testing.assert_array_equal(near, (km <= 25).sum(1))


def test_density_classes_start_at_their_lower_ends():
    table = breakdown.by_density(np.array([0, 1, 9, 10, 5000]), np.zeros(5))
    assert table["group"].to_list() == [0, 1, 10, 1000]
    assert table["count"].to_list() == [1, 2, 1, 1]


def test_cells_lie_where_their_photos_are():
    table = breakdown.by_cell(np.array([51.0, 51.1, -20.0]), np.array([8.0, 8.2, -60.0]), np.array([1.0, 99.0, 5.0]))
    assert table["count"].to_list() == [2, 1]
    np.testing.assert_allclose(table["latitude"], [51.05, -20.0], atol=0.01)
    np.testing.assert_allclose(table["longitude"], [8.1, -60.0], atol=0.01)
    assert table["accuracy_25km"].to_list() == [0.5, 1.0]
