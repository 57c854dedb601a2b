import numpy as np
import pytest
import torch

from stages.evaluate.retrieval import retrieve
from stages.geo import displace, great_circle_km, unit_vectors
from stages.predict import search

SCALE = 20.0


def places(n, seed):
    """Places (n,): half of them all over the sphere, half within some 30 km of the pole and of two other places."""
    rng = np.random.default_rng(seed)
    latitude, longitude = np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)
    town = rng.integers(0, 3, n // 2)
    latitude[: n // 2], longitude[: n // 2] = np.array([90.0, -17, 48])[town], np.array([0.0, 180, 11])[town]
    return displace(latitude, longitude, *rng.normal(0, 15, (2, n)))


def embeddings(n, seed):
    return torch.nn.functional.normalize(torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("radius_km", [0.01, 25.0, 3000.0, 20100.0])
@pytest.mark.parametrize("tile", [1, 2**22])
def test_the_probability_within_a_radius_is_the_sum_over_all_places_there(radius_km, tile, monkeypatch):
    monkeypatch.setattr(search, "_TILE", tile)
    latitude, longitude = places(200, seed=1)
    gallery, queries = embeddings(200, seed=2), embeddings(30, seed=3)
    chunks = gallery.split(64)  # the last one is short
    found = retrieve(queries, chunks, 7, scale=SCALE)
    vectors = torch.from_numpy(unit_vectors(latitude, longitude))
    share = search.probability_within(radius_km, found, queries, vectors, chunks, scale=SCALE)

    softmax = torch.softmax(SCALE * queries.double() @ gallery.double().T, dim=1).numpy()
    for photo in range(30):
        for rank, row in enumerate(found.row[photo]):
            near = great_circle_km(latitude[row], longitude[row], latitude, longitude) <= radius_km
            # 1e-5: logits of up to 20 have a grain of 2e-6 in float32, and the normaliser has one too.
            assert float(share[photo, rank]) == pytest.approx(softmax[photo, near].sum(), abs=1e-5)


def test_every_share_is_one_when_all_places_are_near_and_the_probability_when_none_is():
    far = np.array([0.0, 0.0, 80.0]), np.array([0.0, 90.0, -120.0])
    queries, gallery = embeddings(5, seed=1), embeddings(3, seed=2)
    for latitude, longitude in (far, (np.full(3, 10.0), np.array([179.95, -179.95, 180.0]))):
        found = retrieve(queries, [gallery], 3, scale=SCALE)
        vectors = torch.from_numpy(unit_vectors(latitude, longitude))
        share = search.probability_within(25, found, queries, vectors, [gallery], scale=SCALE)
        expected = found.probability(SCALE).double() if latitude is far[0] else torch.ones(5, 3).double()
        np.testing.assert_allclose(share, expected, atol=1e-5)
        assert share.max() <= 1


def test_the_places_and_probabilities_are_those_of_the_evaluation(model):
    from stages.evaluate.gallery import embed_photos, embed_places, locate

    latitude, longitude = places(100, seed=4)
    features = unit_vectors(*places(20, seed=5)).astype(np.float32)
    gallery = search.Gallery(latitude, longitude, lambda: embed_places(model, latitude, longitude))
    answers = search.find(model, features, gallery, 5)
    queries = embed_photos(model, features)
    top = locate(model, queries, (latitude, longitude), embed_places(model, latitude, longitude), 5)
    for name in ("latitude", "longitude", "probability"):
        np.testing.assert_array_equal(getattr(answers, name), getattr(top, name))
    assert (answers.probability_near >= answers.probability - 1e-6).all()
