from itertools import combinations

import numpy as np
import pytest

from stages.geo import great_circle_km, unit_vectors
from stages.variogram.blocks import spatial_blocks
from stages.variogram.models import Semivariogram
from stages.variogram.negatives import KINDS, Pair, _apart, find_examples

RANGE_KM = 400.0


@pytest.fixture
def model():
    lag_km = np.geomspace(0.1, 20_000, 30)
    semivariance = 0.1 + 0.5 * (1 - np.exp(-3 * lag_km / RANGE_KM))
    bins = {"lag_km": lag_km, "semivariance": semivariance, "std": np.full(30, 0.15), "n_pairs": np.full(30, 99)}
    errors = {"se_block": np.full(30, 0.1), "se_model": np.full(30, 0.1), "standard_errors": {}}
    return Semivariogram("exponential", 0.1, 0.5, RANGE_KM, {}, weighted_rmse=0.0, r2=1.0, **errors, **bins)


@pytest.fixture
def photos(scatter):
    """Coordinates, features and drives of a few hundred photos, some of them in one place or at a pole."""
    latitude, longitude = scatter(300, 3, n_towns=30)
    latitude[:2], longitude[:2] = 90.0, (0.0, 77.0)
    latitude[2:4], longitude[2:4] = -17.0, (180.0, -180.0)
    features = np.random.default_rng(1).normal(size=(300, 6))
    features[1], features[3] = features[0], features[2]
    return latitude, longitude, features, np.arange(300) // 3


def weights_of_all_pairs(photos, model):
    """What the loss makes of every pair of different drives that is more alike than expected, one by one."""
    latitude, longitude, features, drives = photos
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    found = {kind: {} for kind in KINDS}
    for a, b in combinations(range(len(drives)), 2):
        lag_km = great_circle_km(latitude[a], longitude[a], latitude[b], longitude[b])
        correlation = np.exp(-3 * lag_km / RANGE_KM)
        z = (0.1 + 0.5 * (1 - correlation) - (1 - features[a] @ features[b])) / 0.15
        if drives[a] == drives[b] or z <= 0:
            continue
        if lag_km > RANGE_KM:
            found["hard_negative"][a, b] = z
        else:
            found["false_negative"][a, b] = correlation / (1 + np.exp(-z))
    return found


def test_the_examples_are_those_that_the_loss_weighs_most(photos, model):
    examples = find_examples(*photos, model, 5)
    every = weights_of_all_pairs(photos, model)
    drives, blocks = photos[3], spatial_blocks(unit_vectors(*photos[:2]))
    for kind in KINDS:
        pairs = [pair for pair in examples if pair.kind == kind]
        assert 0 < len(pairs) <= 5
        for pair in pairs:
            # 1 % : the stage reads the model's curves off a table.
            assert pair.strength == pytest.approx(every[kind][tuple(sorted((pair.a, pair.b)))], rel=0.01)
        assert pairs[0].strength == pytest.approx(max(every[kind].values()), rel=0.01)
        assert [pair.strength for pair in pairs] == sorted((pair.strength for pair in pairs), reverse=True)
        seen = [drives[i] for pair in pairs for i in (pair.a, pair.b)]
        assert len(set(seen)) == len(seen)
        regions = [tuple(sorted((blocks[pair.a], blocks[pair.b]))) for pair in pairs]
        assert len(set(regions)) == len(regions)


def test_false_negatives_are_near_and_hard_negatives_far(photos, model):
    for pair in find_examples(*photos, model, 5):
        assert (pair.lag_km > RANGE_KM) == (pair.kind == "hard_negative")
        assert pair.z == pytest.approx((pair.expected_distance - pair.distance) / 0.15, rel=0.01)


def test_of_two_alike_pairs_within_the_range_the_nearer_one_comes_first(model):
    latitude, longitude = np.array([0.0, 0.1, 40.0, 43.0]), np.zeros(4)  # 11 km and 334 km apart
    features = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    pairs = find_examples(latitude, longitude, features, np.arange(4), model, 5)
    false = [{pair.a, pair.b} for pair in pairs if pair.kind == "false_negative"]
    assert false[0] == {0, 1}


def test_a_model_without_a_range_has_no_examples(photos, model):
    without = Semivariogram(**{**vars(model), "name": "nugget", "partial_sill": 0.0, "range_km": None})
    assert find_examples(*photos, without, 5) == []


@pytest.mark.parametrize("drives", [[0, 0], [0]])
def test_photos_of_one_drive_or_one_photo_have_no_examples(drives, model):
    n = len(drives)
    assert find_examples(np.zeros(n), np.zeros(n), np.ones((n, 2)), np.array(drives), model, 5) == []


def test_pairs_stand_apart():
    def pair(a, b, strength):
        return Pair("hard_negative", a, b, 1.0, 0.1, 0.2, 1.0, strength)

    drives, blocks = np.array([0, 0, 1, 2, 3, 4]), np.array([7, 7, 8, 7, 8, 9])
    weakest, strongest = pair(4, 5, 1.0), pair(0, 2, 5.0)
    same_drive, same_blocks = pair(1, 5, 4.0), pair(4, 3, 3.0)
    assert _apart([weakest, same_blocks, same_drive, strongest], drives, blocks) == [strongest, weakest]
