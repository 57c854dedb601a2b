import numpy as np
import polars as pl
import pytest

from stages.geo import great_circle_km, unit_vectors
from stages.world import geography, roads


@pytest.fixture(scope="module")
def land():
    return geography.Land(seed=2)


@pytest.fixture(scope="module")
def towns(land):
    return geography.found_towns(land, seed=2)


def vectors_of(places):
    return unit_vectors(places["latitude"].to_numpy(), places["longitude"].to_numpy())


def test_frames_of_a_drive_are_50_to_500_m_apart_on_a_road_that_bends_smoothly(towns):
    frames = roads.drive(np.random.default_rng(0), towns, 300, 6.0)
    assert frames["drive"].is_sorted()
    assert frames["drive"].n_unique() == 300
    lat, lon, drive = (frames[name].to_numpy() for name in ("latitude", "longitude", "drive"))
    step_km = great_circle_km(lat[:-1], lon[:-1], lat[1:], lon[1:])[drive[:-1] == drive[1:]]
    assert step_km.min() > 0.0499
    assert step_km.max() < 0.501
    steps = np.diff(vectors_of(frames), axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    turn = (steps[:-1] * steps[1:]).sum(axis=1)[(drive[:-2] == drive[2:])]
    assert np.mean(np.degrees(np.arccos(np.clip(turn, -1, 1)))) < 15


def test_drives_at_the_antimeridian_and_near_a_pole_stay_near_their_towns():
    towns = pl.DataFrame({"lat": [89.9, 10.0, 10.1], "lon": [0.0, 179.99, -179.99], "weight": [0.0, 0.6, 0.4]})
    frames = roads.drive(np.random.default_rng(0), towns.tail(2), 200, 4.0)
    assert len(frames) > 200
    assert np.all(np.abs(frames["longitude"].to_numpy()) > 175)
    assert {-1.0, 1.0} == set(np.sign(frames["longitude"].to_numpy()))
    pole = roads.drive(np.random.default_rng(0), towns.with_columns(weight=pl.Series([1.0, 0.0, 0.0])), 50, 4.0)
    assert np.all(np.isfinite(vectors_of(pole)))


def test_photos_are_on_land_and_test_photos_are_100_m_from_training_photos_in_the_same_towns(land, towns):
    train = roads.photo_places(land, towns, 3000, split="train", seed=2)
    test = roads.photo_places(land, towns, 300, split="test", seed=2, away_from=vectors_of(train))
    assert (len(train), len(test)) == (3000, 300)
    assert np.all(land.height(vectors_of(train)) > 0)
    assert np.all(land.height(vectors_of(test)) > 0)
    lat, lon, other_lat, other_lon = (
        places[name].to_numpy() for places in (test, train) for name in ("latitude", "longitude")
    )
    nearest_km = great_circle_km(lat[:, None], lon[:, None], other_lat, other_lon).min(axis=1)
    assert 0.1 < nearest_km.min() < 1  # so that a street can be told at all
    assert np.mean(nearest_km < 100) > 0.6
