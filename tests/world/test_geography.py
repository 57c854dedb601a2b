import numpy as np
import polars as pl
import pytest

from stages.geo import coordinates, great_circle_km, unit_vectors
from stages.world import geography
from stages.world.names import COUNTRY_CODES, invent_names


@pytest.fixture(scope="module")
def land():
    return geography.Land(seed=5)


@pytest.fixture(scope="module")
def towns(land):
    return geography.name_areas(geography.found_towns(land, seed=5), seed=5)


def test_fibonacci_points_are_spread_evenly():
    points = geography.fibonacci_sphere(10_000)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1)
    latitude, longitude = coordinates(points)
    assert np.mean(latitude > 30) == pytest.approx(0.25, abs=1e-3)  # a cap above 30 degrees is a quarter of the sphere
    assert np.mean(longitude < -90) == pytest.approx(0.25, abs=1e-3)


def test_thirty_percent_is_land_and_the_land_wraps(land):
    random = np.random.default_rng(0).standard_normal((30_000, 3))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    assert np.mean(land.height(random) > 0) == pytest.approx(0.3, abs=0.02)
    latitude = np.linspace(-90, 90, 50)
    west, east = (land.height(unit_vectors(latitude, np.full(50, side))) for side in (-180.0, 180.0))
    np.testing.assert_allclose(west, east, atol=1e-9)


def test_coastlines_run_between_land_and_sea_and_do_not_cross_the_antimeridian(land):
    coast = geography.coastlines(land)
    assert coast.columns == ["line", "latitude", "longitude"]
    height = land.height(unit_vectors(coast["latitude"].to_numpy(), coast["longitude"].to_numpy()))
    assert np.abs(height).max() < geography.SHORE
    steps = coast.filter(pl.len().over("line") > 1).select(pl.col("longitude").diff().over("line").abs().max())
    assert steps.item() <= geography.GRID_DEG + 1e-9


def test_towns_are_many_on_land_and_of_very_different_size(land, towns):
    assert len(towns) > 1000
    assert np.all(land.height(unit_vectors(towns["lat"].to_numpy(), towns["lon"].to_numpy())) > 0)
    assert towns["weight"].sum() == pytest.approx(1)
    assert towns["weight"].max() > 30 * towns["weight"].median()


def test_areas_are_nested_named_and_in_the_codes_that_iso_3166_leaves_free(towns):
    assert set(towns["cc"]) <= set(COUNTRY_CODES)
    assert len(COUNTRY_CODES) == 40
    assert all("QM" <= code <= "QZ" or "XA" <= code <= "XZ" for code in COUNTRY_CODES)
    assert towns.select(pl.col("name", "admin1", "cc").null_count()).row(0) == (0, 0, 0)
    without = towns.group_by("cc").agg(pl.col("admin2").null_count() / pl.len())
    assert set(without["admin2"]) == {0.0, 1.0}  # a country has sub-regions or it has none
    assert towns.n_unique(["cc", "admin1"]) > 3 * towns["cc"].n_unique()
    assert not towns.select(pl.concat_str("name", "admin1").str.contains('[,_"\n]').any()).item()


def test_a_town_is_in_the_country_of_the_nearest_capital(towns):
    rng = np.random.default_rng(0)
    vectors = unit_vectors(towns["lat"].to_numpy(), towns["lon"].to_numpy())
    cells = geography._cells(rng, vectors, 40)
    assert sorted(np.concatenate(cells)) == list(range(len(towns)))
    lat, lon = towns["lat"].to_numpy(), towns["lon"].to_numpy()
    capitals = np.array([cell[0] for cell in cells])
    lag_km = great_circle_km(lat[:, None], lon[:, None], lat[capitals], lon[capitals])
    for index, cell in enumerate(cells):
        assert np.all(lag_km[cell].argmin(axis=1) == index)


def test_cells_of_one_place_and_of_coincident_places_are_one_cell():
    one = unit_vectors(np.array([90.0]), np.array([12.0]))
    assert [cell.tolist() for cell in geography._cells(np.random.default_rng(0), one, 5)] == [[0]]
    same = np.repeat(one, 4, axis=0)
    (cell,) = geography._cells(np.random.default_rng(0), same, 3)
    assert sorted(cell) == [0, 1, 2, 3]


def test_the_nearest_town_is_found_over_the_antimeridian():
    towns = pl.DataFrame({"lat": [0.0, 0.0], "lon": [179.9, -170.0]})
    assert geography.nearest_town(towns, unit_vectors(np.array([0.0]), np.array([-179.9]))).tolist() == [0]


def test_names_differ_and_can_be_spoken():
    names = invent_names(np.random.default_rng(0), 300)
    assert len(set(names)) == 300
    assert all(name.isalpha() and name[0].isupper() and 3 <= len(name) <= 24 for name in names)
    assert all(any(vowel in name.lower() for vowel in "aeiou") for name in names)
