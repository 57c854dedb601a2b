import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from stages.geo import displace, great_circle_km
from stages.report.examples import extremes, first_pairs, neighbourhoods, one_a_drive, pair_card, prediction_card


def towns(n_photos, spread_km, seed=0):
    """Photos in towns at a pole, on the antimeridian and elsewhere, a country each; the last has no name."""
    rng = np.random.default_rng(seed)
    latitude = np.repeat([89.99, -17.0, 10.0, 45.0], n_photos)
    longitude = np.repeat([0.0, 179.99, 20.0, -100.0], n_photos)
    latitude, longitude = displace(latitude, longitude, *rng.normal(0, spread_km, (2, len(latitude))))
    return latitude, longitude, pl.Series(np.repeat(["AA", "FJ", "CC", None], n_photos).tolist())


def test_neighbours_are_the_nearest_photos_and_within_50_km():
    latitude, longitude, country = towns(10, spread_km=15)
    sheet = neighbourhoods(latitude, longitude, country, 6, 5, 1)
    assert len(sheet) >= 3
    for first, *others in sheet:
        lag_km = great_circle_km(latitude[first], longitude[first], latitude, longitude)
        assert lag_km[first] == 0
        assert lag_km[others].max() < 50
        assert lag_km[others].max() <= np.delete(lag_km, [first, *others]).min()
    countries = [country[int(first)] for first, *_ in sheet]
    assert len(set(countries)) == len(countries)


def test_a_place_has_one_row_and_coincident_photos_are_neighbours():
    latitude, longitude, country = np.full(4, 90.0), np.zeros(4), pl.Series(["AA"] * 4)
    sheet = neighbourhoods(latitude, longitude, country, 3, 4, 1)
    assert len(sheet) == 1
    assert sorted(sheet[0]) == [0, 1, 2, 3]


@pytest.mark.parametrize(("n_photos", "spread_km"), [(4, 1), (8, 1000), (0, 1)])
def test_lonely_photos_have_no_row(n_photos, spread_km):
    assert neighbourhoods(*towns(n_photos, spread_km), 6, 5, 1) == []


def test_the_sheet_is_no_longer_than_asked():
    assert len(neighbourhoods(*towns(8, 1), 2, 3, 1)) == 2


def test_extremes_are_the_best_the_middle_and_the_worst():
    error_km = np.array([50.0, 1.0, 40.0, 2.0, 30.0, 3.0, 20.0])
    found = {name: error_km[rows].tolist() for name, rows in extremes(error_km, np.arange(7), 3).items()}
    assert found == {"best": [1, 2, 3], "median": [3, 20, 30], "worst": [50, 40, 30]}


def test_each_example_is_of_another_drive():
    error_km, drive = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), np.array([0, 0, 1, 1, 1, 2, 2])
    found = {name: error_km[rows].tolist() for name, rows in extremes(error_km, drive, 2).items()}
    assert found == {"best": [1, 3], "median": [2, 4], "worst": [7, 5]}
    assert one_a_drive(np.array([6, 4, 5, 0, 3]), drive).tolist() == [6, 4, 0]


def test_of_ties_the_first_photos_are_best_and_the_last_worst():
    found = {name: rows.tolist() for name, rows in extremes(np.ones(4), np.arange(4), 1).items()}
    assert found == {"best": [0], "median": [1], "worst": [3]}


def test_nan_counts_as_worst():
    assert extremes(np.array([np.nan, 5.0, 1.0]), np.arange(3), 1)["worst"].tolist() == [0]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_photos_than_asked_are_all_shown(n):
    assert all(sorted(rows) == list(range(n)) for rows in extremes(np.arange(n, dtype=float), np.arange(n), 6).values())


def test_the_first_pairs_of_each_kind_are_kept_in_order():
    pairs = pl.DataFrame(
        {"kind": ["hard_negative", "false_negative", "hard_negative", "hard_negative"], "z": [3, 2, 1, 0]}
    )
    found = first_pairs(pairs, 2)
    assert found["hard_negative"]["z"].to_list() == [3, 1]
    assert found["false_negative"]["z"].to_list() == [2]


@pytest.fixture
def photo():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_pairs_card_has_its_numbers_in_words(photo):
    facts = {"lag_km": 0.409, "distance": -1e-9, "expected_distance": 0.2333, "z": -0.04}
    card = pair_card({"id_a": "a", "id_b": "b"} | facts, {"a": photo, "b": photo})
    assert {key: card[key] for key in ("lag", "distance", "expected", "z")} == (
        {"lag": "409 m", "distance": "0.000", "expected": "0.233", "z": "0.0"}
    )


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("Nadi", "Western", "FJ"), "Nadi, Western, FJ"),
        ((None, "", "FJ"), "FJ"),
        ((None, None, None), "a place without a name"),
    ],
)
def test_a_predictions_card_names_the_place_as_far_as_it_has_names(photo, names, text):
    prediction = {"latitude": -17.0, "longitude": 180.0, "top_latitude": [90.0], "top_longitude": [0.0]}
    prediction["error_km"] = 11_900.0
    coastlines = pl.DataFrame({"line": [0, 0], "latitude": [0.0, 1.0], "longitude": [0.0, 1.0]})
    card = prediction_card(prediction, dict(zip(("city", "region", "country"), names, strict=True)), photo, coastlines)
    assert card["place"] == text
    assert card["error"] == "11,900 km"
    assert card["map"].startswith("data:image/png;base64,")
