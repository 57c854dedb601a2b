import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from stages.evaluate import retrieval
from stages.evaluate.retrieval import chunked, largest, retrieve


def unit_rows(n, width, seed):
    rows = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, width))).float()
    return torch.nn.functional.normalize(rows, dim=1)


def brute_force(queries, gallery, k):
    """Rows of the k most similar, by a double loop; equals by row."""
    rows = []
    for query in queries.tolist():
        similarity = [sum(a * b for a, b in zip(query, place, strict=True)) for place in gallery.tolist()]
        rows.append(sorted(range(len(gallery)), key=lambda i: (-similarity[i], i))[:k])
    return np.array(rows)


@pytest.mark.parametrize("chunk", [1, 7, 40, 100])
def test_retrieval_equals_a_double_loop(chunk):
    queries, gallery = unit_rows(9, 5, 0), unit_rows(40, 5, 1)
    found = retrieve(queries, chunked(gallery, chunk), 6)
    np.testing.assert_array_equal(found.row, brute_force(queries, gallery, 6))


def test_retrieval_equals_scikit_learns(monkeypatch):
    monkeypatch.setattr(retrieval, "_QUERY_CHUNK", 64)  # 200 queries make an uneven last tile
    queries, gallery = unit_rows(200, 32, 0), unit_rows(5000, 32, 1)
    found = retrieve(queries, chunked(gallery, 1999), 5)
    distance, row = NearestNeighbors(n_neighbors=5, metric="cosine").fit(gallery.numpy()).kneighbors(queries.numpy())
    np.testing.assert_array_equal(found.row, row)
    np.testing.assert_allclose(1 - found.similarity, distance, atol=1e-6)  # float32


@given(st.lists(st.integers(0, 3), min_size=1, max_size=700), st.integers(1, 9))
def test_the_largest_are_those_of_a_stable_sort_however_many_are_equal(values, k):
    values = torch.tensor([values, values[::-1]]).float()
    k = min(k, values.shape[1])
    expected = values.sort(dim=1, descending=True, stable=True)
    value, column = largest(values, k)
    assert torch.equal(value, expected.values[:, :k])
    assert torch.equal(column, expected.indices[:, :k])


@pytest.mark.parametrize("k", [1, 31, 34, 64, 8999, 9000])
def test_the_largest_are_those_of_a_stable_sort_with_blocks_and_without(k):
    values = torch.from_numpy(np.random.default_rng(k).integers(0, 50_000, (20, 9000))).float()
    expected = values.sort(dim=1, descending=True, stable=True)
    value, column = largest(values, k)
    assert torch.equal(value, expected.values[:, :k])
    assert torch.equal(column, expected.indices[:, :k])


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(1, 5), st.integers(1, 31))
def test_equal_places_come_in_their_order_however_the_gallery_is_cut(values, k, chunk):
    gallery = torch.tensor(values).float()[:, None]
    found = retrieve(torch.ones(1, 1), chunked(gallery, chunk), k)
    assert found.row[0].tolist() == sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]


def test_probabilities_are_the_softmax_over_the_whole_gallery():
    queries, gallery, scale = unit_rows(3, 8, 0), unit_rows(50, 8, 1), 30.0
    softmax = torch.softmax(scale * queries.double() @ gallery.double().T, dim=1)
    found = retrieve(queries, chunked(gallery, 16), 4, scale=scale)
    # 1e-4: float32 logits of 30 have a grain of 2e-6, and their exponentials the same relative one.
    np.testing.assert_allclose(found.probability(scale), softmax.gather(1, found.row), rtol=1e-4)
    everything = retrieve(queries, chunked(gallery, 16), 50, scale=scale)
    np.testing.assert_allclose(everything.probability(scale).sum(1), 1, rtol=1e-5)


def test_a_sharp_scale_does_not_overflow():
    found = retrieve(torch.ones(1, 1), [torch.tensor([[1.0], [-1.0]])], 2, scale=1000.0)
    assert found.probability(1000.0).tolist() == [[1.0, 0.0]]


def test_more_than_the_gallery_gives_all_of_it():
    found = retrieve(unit_rows(2, 4, 0), chunked(unit_rows(3, 4, 1), 2), 10)
    assert found.row.shape == (2, 3)
    assert found.row.sort().values.tolist() == [[0, 1, 2]] * 2


def test_an_empty_gallery_gives_no_place():
    assert retrieve(unit_rows(2, 4, 0), [], 5).row.shape == (2, 0)


def test_one_query_and_one_place():
    found = retrieve(unit_rows(1, 4, 0), [unit_rows(1, 4, 0)], 1, scale=5.0)
    assert found.row.tolist() == [[0]]
    assert found.probability(5.0).tolist() == [[1.0]]
