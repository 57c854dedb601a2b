import numpy as np
import pytest

from stages.geo import great_circle_km, squared_chord, unit_vectors
from stages.variogram import stratified
from stages.variogram.empirical import estimate, lag_edges_km
from stages.variogram.stratified import draw_pairs, pairs_in_bin

EDGES_KM = lag_edges_km(0.1, 40)


def pairs_by_bin(latitude, longitude):
    i, j = np.triu_indices(len(latitude), 1)
    lag_km = great_circle_km(latitude[i], longitude[i], latitude[j], longitude[j])
    return i, j, np.minimum(np.searchsorted(EDGES_KM, lag_km, side="right") - 1, 39)


def test_drawn_pairs_lie_in_their_bins_and_fill_them(scatter):
    latitude, longitude = scatter(1500, 1)
    i, j, lag = draw_pairs(unit_vectors(latitude, longitude), np.arange(1500), EDGES_KM, 500, seed=1)
    lag_km = great_circle_km(latitude[i], longitude[i], latitude[j], longitude[j])
    assert (i != j).all()
    assert ((EDGES_KM[lag] <= lag_km) & (lag_km <= EDGES_KM[lag + 1])).all()
    there = np.bincount(pairs_by_bin(latitude, longitude)[2], minlength=40)
    drawn = np.bincount(lag, minlength=40)
    assert (drawn <= np.minimum(there, 500)).all()
    assert (drawn >= 0.7 * np.minimum(there, 500)).all()  # a pair drawn twice counts once


@pytest.mark.parametrize("lag", [12, 20])
def test_rejection_draws_every_pair_of_a_bin_equally_often(scatter, monkeypatch, lag):
    latitude, longitude = scatter(700, 2)
    i, j, bins = pairs_by_bin(latitude, longitude)
    there = bins == lag
    number = {pair: row for row, pair in enumerate(zip(i[there].tolist(), j[there].tolist(), strict=True))}
    monkeypatch.setattr(stratified, "DRAWS_AT_ONCE", 4000)  # else all of so few candidates are looked at
    n_pairs, vectors, ends = 20 * len(number), unit_vectors(latitude, longitude), squared_chord(EDGES_KM)
    a, b = pairs_in_bin(vectors, np.arange(700), ends[lag], ends[lag + 1], n_pairs, np.random.default_rng(3))
    found = [number[min(pair), max(pair)] for pair in zip(a.tolist(), b.tolist(), strict=True)]
    counts = np.bincount(found, minlength=len(number))
    assert counts.sum() == n_pairs
    chi_squared = ((counts - 20) ** 2 / 20).sum() / len(number)
    assert abs(chi_squared - 1) < 5 * (2 / len(number)) ** 0.5


def test_fewer_pairs_than_asked_for_are_all_taken_once(scatter):
    latitude, longitude = scatter(300, 3)
    i, j, lag = draw_pairs(unit_vectors(latitude, longitude), np.arange(300), EDGES_KM, 10**6, seed=1)
    assert len(np.unique(np.sort([i, j], axis=0), axis=1).T) == len(i) == 300 * 299 // 2


def test_stratified_agrees_with_exhaustive_within_its_sampling_error(scatter, simulate):
    latitude, longitude = scatter(1500, 4)
    features = simulate(latitude, longitude, 0.15, [(0.45, 500)], 4, width=32)
    whole = estimate(latitude, longitude, features, edges_km=EDGES_KM, pairs="exhaustive")
    z = []
    for seed in range(3):
        drawn = estimate(
            latitude, longitude, features, edges_km=EDGES_KM, pairs="stratified", n_pairs_per_lag=400, seed=seed
        )
        sampled = whole.n_pairs > 20 * drawn.n_pairs
        assert sampled.sum() > 10
        z.append(((drawn.semivariance - whole.semivariance) / drawn.se_sampling)[sampled])
        # A bin drawn whole is the exhaustive one.
        same = (drawn.n_pairs == whole.n_pairs) & (whole.n_pairs > 0)
        np.testing.assert_allclose(drawn.semivariance[same], whole.semivariance[same], rtol=1e-6)
    z = np.concatenate(z)
    assert abs(z.mean()) < 4 / len(z) ** 0.5
    assert 0.7 < z.std() < 1.3


def test_the_same_seed_draws_the_same_pairs(scatter):
    vectors = unit_vectors(*scatter(1500, 5))
    first, again = (draw_pairs(vectors, np.arange(1500), EDGES_KM, 100, seed=7) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_poles_antipodes_and_one_place():
    latitude = np.array([90.0, 90.0, -90.0, 0.0, 0.0])
    longitude = np.array([0.0, 50.0, 9.0, 180.0, -180.0])
    *_, lag = draw_pairs(unit_vectors(latitude, longitude), np.arange(5), EDGES_KM, 100, seed=1)
    np.testing.assert_array_equal(
        np.bincount(lag, minlength=40), np.bincount(pairs_by_bin(latitude, longitude)[2], minlength=40)
    )
    *_, lag = draw_pairs(unit_vectors(np.zeros(9), np.zeros(9)), np.arange(9), EDGES_KM, 100, seed=1)
    assert lag.tolist() == [0] * 36
