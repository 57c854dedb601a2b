import gstools
import numpy as np
import pytest
import skgstat
import torch

from stages.cli import InputError
from stages.cluster import ThisMachine
from stages.geo import EARTH_RADIUS_KM, great_circle_km, unit_vectors
from stages.variogram.blocks import along_curve, spatial_blocks
from stages.variogram.empirical import (
    ESTIMATORS,
    cressie_semivariance,
    drive_numbers,
    estimate,
    jackknife,
    lag_edges_km,
)
from stages.variogram.exhaustive import sum_all_pairs

EDGES_KM = lag_edges_km(0.1, 40)


def random_features(n, d, seed=0):
    features = np.random.default_rng(seed).normal(size=(n, d))
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def double_loop(latitude, longitude, features, edges_km, sequence=None):
    """Counts, mean lags, mean and standard deviation of cosine distances by lag bin, a pair at a time in float64."""
    found = [[] for _ in edges_km[1:]]
    for i in range(len(latitude)):
        for j in range(i):
            if sequence is not None and sequence[i] is not None and sequence[i] == sequence[j]:
                continue
            lag_km = float(great_circle_km(latitude[i], longitude[i], latitude[j], longitude[j]))
            lag = min(np.searchsorted(edges_km, lag_km, side="right") - 1, len(found) - 1)
            if lag >= 0:
                found[lag].append((lag_km, 1 - features[i] @ features[j]))
    counts = np.array([len(pairs) for pairs in found])
    means = np.array([np.mean(pairs, axis=0) if pairs else (np.nan, np.nan) for pairs in found])
    std = np.array([np.std([d for _, d in pairs], ddof=1) if len(pairs) > 1 else np.nan for pairs in found])
    return counts, *means.T, std


@pytest.mark.parametrize("robust", ["matheron", "cressie"])
def test_exhaustive_is_a_float64_double_loop(scatter, robust):
    latitude, longitude = scatter(250, 1)
    features = random_features(250, 16)
    counts, lag_km, semivariance, std = double_loop(latitude, longitude, features, EDGES_KM)
    found = estimate(latitude, longitude, features, edges_km=EDGES_KM, estimator=robust)
    np.testing.assert_array_equal(found.n_pairs, counts)
    np.testing.assert_allclose(found.lag_km, lag_km, rtol=1e-5)  # arc sine in float32
    np.testing.assert_allclose(found.std, std, rtol=1e-5)
    if robust == "matheron":
        np.testing.assert_allclose(found.semivariance, semivariance, rtol=1e-6)


def test_many_tiles_and_a_short_last_one_are_one_product(scatter):
    latitude, longitude = scatter(1300, 2)  # 1024 + 276
    features = random_features(1300, 12)
    i, j = np.triu_indices(1300, 1)
    lag_km = great_circle_km(latitude[i], longitude[i], latitude[j], longitude[j])
    lag = np.minimum(np.searchsorted(EDGES_KM, lag_km, side="right") - 1, 39)
    counts = np.bincount(lag, minlength=40)
    distance = 1 - np.einsum("pd,pd->p", features[i], features[j])
    found = estimate(latitude, longitude, features, edges_km=EDGES_KM)
    np.testing.assert_array_equal(found.n_pairs, counts)
    np.testing.assert_allclose(found.semivariance, np.bincount(lag, distance, 40) / counts, rtol=1e-6)


def test_equal_to_gstools(scatter):
    # GSTools averages the semivariance over the fields, and counts every pair once for each field.
    latitude, longitude = scatter(200, 3)
    features = random_features(200, 8)
    edges_km = np.append(0, np.geomspace(5, 15000, 12))
    theirs = edges_km.copy()  # it divides the edges by the radius in place
    _, gamma, counts = gstools.vario_estimate(
        (latitude, longitude), list(features.T), theirs, latlon=True, geo_scale=EARTH_RADIUS_KM, return_counts=True
    )
    found = estimate(latitude, longitude, features, edges_km=edges_km)
    np.testing.assert_array_equal(found.n_pairs * 8, counts)
    np.testing.assert_allclose(found.semivariance, gamma * 8, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Perform analysis on 2 dimension data")  # it says so of several variables
def test_equal_to_scikit_gstat(scatter):
    latitude, longitude = scatter(200, 3)
    features = random_features(200, 8)
    edges_km = np.append(0, np.geomspace(5, 15000, 12))
    theirs = skgstat.Variogram(
        np.column_stack([latitude, longitude]),
        features,
        multivariate="aggregate",
        dist_func=lambda a, b: float(great_circle_km(*a, *b)),
        bin_func=edges_km[1:],
    )
    found = estimate(latitude, longitude, features, edges_km=edges_km)
    np.testing.assert_array_equal(found.n_pairs, theirs.bin_count)
    np.testing.assert_allclose(found.semivariance, theirs.experimental, rtol=1e-6)


def test_cressie_is_scikit_gstats_for_one_degree_of_freedom():
    difference = np.abs(np.random.default_rng(0).normal(size=500))
    for n in (30, 500):
        ours = cressie_semivariance(np.sqrt(difference[:n]).mean(), n, 1.0)
        # Their constants have three digits.
        np.testing.assert_allclose(ours, skgstat.estimators.cressie(difference[:n]), rtol=1e-3)


@pytest.mark.parametrize("dof", [1, 5, 300])
def test_cressie_has_the_mean_of_gaussian_vectors_and_resists_outliers(dof):
    rng = np.random.default_rng(dof)
    squared = rng.chisquare(dof, 200_000) / dof * 2 * 0.3  # of differences with semivariance 0.3

    def both(squared):
        norm = np.sqrt(squared)
        moments = (np.ones_like(norm), norm, norm**2 / 2, norm**4 / 4, np.sqrt(norm), norm)
        sums = np.array([value.sum() for value in moments])
        return ESTIMATORS["cressie"](sums), ESTIMATORS["matheron"](sums)

    robust, plain = both(squared)
    np.testing.assert_allclose([robust, plain], 0.3, rtol=0.015)
    squared[:2000] *= 50  # one in a hundred
    robust, plain = both(squared)
    assert plain > 0.43
    assert abs(robust - 0.3) < 0.5 * abs(plain - 0.3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_bin_of_one_feature_has_semivariance_0_and_an_empty_one_has_none(estimator):
    latitude, features = np.array([0.0, 0.0, 50.0, 50.0]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = estimate(latitude, np.zeros(4), features, edges_km=EDGES_KM, estimator=estimator)
    assert found.semivariance[0] == 0
    filled = found.n_pairs > 0
    assert filled.sum() == 2
    np.testing.assert_array_equal(np.isnan(found.semivariance), ~filled)


def test_pairs_within_a_sequence_are_left_out(scatter):
    latitude, longitude = scatter(120, 4)
    features = random_features(120, 6)
    sequence = [None if row % 7 == 0 else f"drive {row % 5}" for row in range(120)]
    counts, _, semivariance, _ = double_loop(latitude, longitude, features, EDGES_KM, sequence)
    for pairs in ("exhaustive", "stratified"):
        found = estimate(latitude, longitude, features, edges_km=EDGES_KM, sequence=sequence, pairs=pairs)
        np.testing.assert_array_equal(found.n_pairs > 0, counts > 0)
    found = estimate(latitude, longitude, features, edges_km=EDGES_KM, sequence=sequence)
    np.testing.assert_array_equal(found.n_pairs, counts)
    np.testing.assert_allclose(found.semivariance, semivariance, rtol=1e-6)


def test_poles_antimeridian_coincident_and_antipodal_places():
    latitude = np.array([90.0, 90.0, -90.0, 0.0, 0.0, 0.0, 12.5, 12.5])
    longitude = np.array([0.0, 123.0, 77.0, 180.0, -180.0, 179.9995, 30.0, -150.0])
    features = random_features(8, 4)
    counts, lag_km, semivariance, _ = double_loop(latitude, longitude, features, EDGES_KM)
    found = estimate(latitude, longitude, features, edges_km=EDGES_KM)
    np.testing.assert_array_equal(found.n_pairs, counts)
    assert counts[0] == 4  # the pole by two longitudes, and three names of one place at the antimeridian
    np.testing.assert_allclose(found.semivariance, semivariance, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.lag_km[1:], lag_km[1:], rtol=1e-4)


def test_antipodes_fall_into_the_last_bin():
    rng = np.random.default_rng(0)
    latitude, longitude = rng.uniform(-90, 90, 200), rng.uniform(-180, 0, 200)
    latitude, longitude = np.append(latitude, -latitude), np.append(longitude, longitude + 180)
    found = estimate(latitude, longitude, random_features(400, 4), edges_km=EDGES_KM)
    assert found.n_pairs.sum() == 400 * 399 // 2


def test_given_edges_leave_out_what_lies_outside(scatter):
    latitude, longitude = scatter(150, 5)
    features = random_features(150, 5)
    edges_km = np.array([3.0, 40.0, 41.0, 5000.0])
    i, j = np.triu_indices(150, 1)
    lag_km = great_circle_km(latitude[i], longitude[i], latitude[j], longitude[j])
    counts = np.histogram(lag_km, edges_km)[0]
    np.testing.assert_array_equal(estimate(latitude, longitude, features, edges_km=edges_km).n_pairs, counts)


def test_an_empty_bin_is_nan_and_warns_nobody():
    found = estimate(np.array([0.0, 0.0]), np.array([0.0, 1.0]), np.eye(2), edges_km=EDGES_KM)
    assert found.n_pairs.sum() == 1
    filled = found.n_pairs > 0
    assert found.semivariance[filled] == [1.0]
    assert np.isnan(found.semivariance[~filled]).all()
    assert np.isnan(found.se_block).all()


def test_features_of_width_one_are_alike_or_opposite():
    found = estimate(np.zeros(3), np.zeros(3), np.array([[1.0], [2.0], [-3.0]]), edges_km=EDGES_KM)
    assert found.n_pairs[0] == 3
    np.testing.assert_allclose(found.semivariance[0], 4 / 3)  # distances 0, 2 and 2


def test_one_photo_makes_no_pair():
    with pytest.raises(InputError, match="needs pairs, and there are 1 photos; take more"):
        estimate(np.zeros(1), np.zeros(1), np.ones((1, 3)), edges_km=EDGES_KM)


@pytest.mark.parametrize("pairs", ["exhaustive", "stratified"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_feature_without_direction_is_named(pairs, value):
    features = random_features(40, 3)
    features[[7, 23]] = value
    with pytest.raises(
        InputError, match=r"features of row 7, 23 are NaN.*have no direction.*dvc repro --force features"
    ):
        estimate(np.linspace(0, 9, 40), np.zeros(40), features, edges_km=EDGES_KM, pairs=pairs)


def test_the_number_of_threads_changes_no_byte(scatter):
    latitude, longitude = scatter(2300, 6)
    vectors, threads = unit_vectors(latitude, longitude), torch.get_num_threads()
    features = random_features(2300, 32).astype(np.float32)
    blocks = np.sort(spatial_blocks(vectors))
    one, three = (
        sum_all_pairs(vectors, features, np.arange(2300), blocks, EDGES_KM, robust=True, machine=ThisMachine(n))
        for n in (1, 3)
    )
    assert one.tobytes() == three.tobytes()
    assert torch.get_num_threads() == threads


def test_block_error_is_the_jackknife_of_whole_estimates(scatter):
    latitude, longitude = scatter(400, 7)
    features = random_features(400, 8)
    found = estimate(latitude, longitude, features, edges_km=EDGES_KM)
    blocks = spatial_blocks(unit_vectors(latitude, longitude))
    edges_km, kept = EDGES_KM, [blocks != block for block in range(blocks.max() + 1)]
    without = [estimate(latitude[k], longitude[k], features[k], edges_km=edges_km).semivariance for k in kept]
    np.testing.assert_allclose(found.se_block, jackknife(np.array(without)), rtol=1e-4)


def test_blocks_are_compact_and_the_same_every_time(scatter):
    vectors = unit_vectors(*scatter(3000, 8))
    blocks = spatial_blocks(vectors)
    assert 20 <= blocks.max() + 1 <= 60
    np.testing.assert_array_equal(blocks, spatial_blocks(vectors))
    radius = [np.arccos((vectors[blocks == b] @ vectors[blocks == b].T).min()) for b in range(blocks.max() + 1)]
    assert np.median(radius) < 0.4  # radians
    assert len(np.unique(spatial_blocks(vectors[:1].repeat(5, axis=0)))) == 1


def test_curve_keeps_neighbours_together(scatter):
    vectors = unit_vectors(*scatter(3000, 9))
    step = np.linalg.norm(np.diff(vectors[np.argsort(along_curve(vectors))], axis=0), axis=1)
    assert np.median(step) < 0.05 * np.median(np.linalg.norm(np.diff(vectors, axis=0), axis=1))


def test_photos_without_a_sequence_are_drives_of_their_own():
    assert drive_numbers(["a", None, "a", None, "b"], 5).tolist() == [0, 1, 0, 3, 4]
    assert drive_numbers(None, 3).tolist() == [0, 1, 2]
