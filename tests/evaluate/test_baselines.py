import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from stages.evaluate import baselines
from stages.shards import FeatureRows


def test_image_knn_equals_scikit_learns(monkeypatch):
    monkeypatch.setattr(baselines, "GALLERY_CHUNK", 70)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(340, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    training, queries = FeatureRows(np.split(rows[:300], [100])), rows[300:].astype(np.float32)
    row, similarity = baselines.image_knn(torch.from_numpy(queries), training, 3)
    neighbours = NearestNeighbors(n_neighbors=3, metric="cosine").fit(rows[:300].astype(np.float32))
    distance, expected = neighbours.kneighbors(queries)
    np.testing.assert_array_equal(row, expected)
    np.testing.assert_allclose(similarity, 1 - distance, atol=2e-3)  # float16 rows are not exactly of length 1


def test_the_most_frequent_place_is_the_middle_of_the_densest_town():
    offsets = np.array([0.0, 0.01, -0.01, 0.02, -0.02])
    latitude = np.concatenate([48.15 + offsets, -30.0 + offsets[:3], np.linspace(-80, 80, 5)])
    longitude = np.concatenate([np.full(5, 2.05), np.full(3, 25.0), np.linspace(-170, 170, 5)])
    rows, share = baselines.most_frequent(latitude, longitude, 2)
    assert rows.tolist() == [0, 5]
    np.testing.assert_allclose(share, [5 / 13, 3 / 13])


def test_cells_are_equally_large_at_every_latitude():
    # Uniform places on the sphere: no cell of 25 km near a pole holds more than its share, as cells in degrees would.
    rng = np.random.default_rng(0)
    latitude, longitude = np.degrees(np.arcsin(rng.uniform(-1, 1, 200_000))), rng.uniform(-180, 180, 200_000)
    _, share = baselines.most_frequent(latitude, longitude, 1)
    assert share[0] * 200_000 < 8  # a mean of 0.25 places a cell


def test_a_middle_across_the_antimeridian_lies_there():
    latitude, longitude = np.zeros(3), np.array([179.9, -179.9, 179.99])
    assert baselines._middle(np.arange(3), latitude, longitude) == 2


def test_fewer_cells_than_asked_for_give_all_and_one_place_is_enough():
    rows, share = baselines.most_frequent(np.array([90.0]), np.array([180.0]), 5)
    assert rows.tolist() == [0]
    assert share.tolist() == [1.0]


def test_the_first_of_equally_dense_cells_wins_every_time():
    latitude, longitude = np.array([40.0, -40.0, 0.0]), np.array([100.0, -100.0, 0.0])
    assert len({tuple(baselines.most_frequent(latitude, longitude, 3)[0]) for _ in range(3)}) == 1
