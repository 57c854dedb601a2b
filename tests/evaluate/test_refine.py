import numpy as np
import pytest
import torch

from stages.evaluate import kriging, refine
from stages.evaluate.baselines import image_knn
from stages.evaluate.choice import IMAGE_KNN, MODEL, Setting
from stages.evaluate.gallery import TopPlaces, embed_photos, embed_places, joined, locate
from stages.geo import great_circle_km, unit_vectors


def places(n, seed):
    """Places all over the sphere, the first on the antimeridian and the second at the pole."""
    rng = np.random.default_rng(seed)
    latitude, longitude = np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)
    latitude[:2], longitude[:2] = [-17, 90][:n], [180, 0][:n]
    return latitude, longitude


class Case:
    """Photos whose features are noisy unit vectors of their places, for the model that knows what a feature means."""

    def __init__(self, model, semivariogram, n_training=40, gallery=None):
        rng = np.random.default_rng(1)
        self.model, self.truth, self.training_places = model, places(23, 2), places(n_training, 3)
        self.features, of_training = (
            (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float16)
            for v in (
                unit_vectors(*at) + rng.normal(0, 0.3, (len(at[0]), 3)) for at in (self.truth, self.training_places)
            )
        )
        self.training = kriging.index(*self.training_places, of_training)
        self.gallery = self.training_places if gallery is None else gallery
        self.semivariogram = semivariogram

    def candidates(self, k):
        known = self.gallery, self.training, self.training_places, self.semivariogram
        (found,) = refine.find_candidates(self.model, [self.features], *known, k)
        return list(found)

    def best(self, k, setting):
        """The best places, without the columns in which no photo has one."""
        top = joined([refine.rank(found, setting, k) for found in self.candidates(k)])
        n_columns = int((~np.isnan(top.latitude)).sum(axis=1).max())
        return TopPlaces(*(None if of is None else of[:, :n_columns] for of in vars(top).values()))


@pytest.fixture(params=[5, 512])
def case(request, model, semivariogram, monkeypatch):
    monkeypatch.setattr(refine, "_PHOTO_CHUNK", request.param)
    return lambda **facts: Case(model, semivariogram(), **facts)


@pytest.mark.parametrize("gallery", [None, places(9, 4)])
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_strength_0_is_the_model(case, k, gallery):
    c = case(gallery=gallery)
    top = c.best(k, MODEL)
    plain = locate(c.model, embed_photos(c.model, c.features), c.gallery, embed_places(c.model, *c.gallery), k)
    np.testing.assert_array_equal(top.latitude, plain.latitude)
    np.testing.assert_array_equal(top.longitude, plain.longitude)
    np.testing.assert_allclose(top.probability, plain.probability, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("gallery", [None, places(9, 4)])
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_an_infinite_strength_is_the_image_knn(case, k, gallery):
    c = case(gallery=gallery)
    top = c.best(k, IMAGE_KNN)
    rows, _ = image_knn(torch.from_numpy(c.features.astype(np.float32)), c.training.features, k)
    np.testing.assert_array_equal(top.latitude, c.training_places[0][rows])
    np.testing.assert_array_equal(top.longitude, c.training_places[1][rows])
    assert top.probability is None


@pytest.mark.parametrize("appearance", ["nearest", "kriged"])
def test_in_between_both_count_by_the_formula_over_all_places(case, appearance):
    c = case()
    top = c.best(1000, Setting(6.0, appearance))
    logits = 50 * c.features.astype(float) @ unit_vectors(*c.training_places).T
    logits /= np.linalg.norm(c.features.astype(float), axis=1, keepdims=True)
    everywhere = [np.tile(angle, (23, 1)) for angle in c.training_places]
    photos = c.features.astype(np.float32)
    similarity = kriging.similarities(photos, *everywhere, c.training, c.semivariogram)[appearance]
    score = logits + 6 * similarity
    best = score.argmax(axis=1)
    np.testing.assert_array_equal(top.latitude[:, 0], c.training_places[0][best])
    assert top.latitude.shape == (23, 40)
    probability = np.exp(score - score.max(1, keepdims=True))
    probability /= probability.sum(1, keepdims=True)
    np.testing.assert_allclose(top.probability, -np.sort(-probability, axis=1), rtol=1e-2, atol=1e-6)
    assert any((c.best(1000, setting).latitude[:, 0] != top.latitude[:, 0]).any() for setting in (MODEL, IMAGE_KNN))


@pytest.mark.parametrize("strength", [0.0, 1.0, 100.0, np.inf])
def test_one_training_photo_is_every_answer(case, strength):
    top = case(n_training=1).best(64, Setting(strength, "nearest"))
    assert top.latitude.tolist() == [[-17]] * 23
    assert top.longitude.tolist() == [[180]] * 23


def test_many_photos_of_one_place_do_not_hide_the_most_similar_one(case, monkeypatch):
    monkeypatch.setattr(kriging, "NEIGHBOURS", 2)
    c = case(n_training=30)
    c.training_places = tuple(np.repeat(angle[:3], 10) for angle in c.training_places)
    c.training = kriging.index(*c.training_places, c.training.features)
    c.gallery = tuple(angle[::10] for angle in c.training_places)
    rows, _ = image_knn(torch.from_numpy(c.features.astype(np.float32)), c.training.features, 1)
    for setting in (IMAGE_KNN, Setting(1e6, "nearest")):
        top = c.best(8, setting)
        np.testing.assert_array_equal(top.latitude[:, 0], c.training_places[0][rows[:, 0]])
        places_of_photo = [set(zip(*lists, strict=True)) for lists in zip(top.latitude, top.longitude, strict=True)]
        assert all(len(distinct) == top.latitude.shape[1] for distinct in places_of_photo)


def test_a_photo_with_few_different_candidates_does_not_shorten_the_lists_of_others(case):
    c = case()
    # Half of the photos look like a webcam's, of which there are 30; the others are like photos of ten places.
    c.training_places = tuple(np.append(np.full(30, angle[2]), angle[3:13]) for angle in c.training_places)
    webcam, others = np.array([0, 0, 1.0]), np.eye(3)[np.arange(10) % 2]
    c.training = kriging.index(*c.training_places, np.vstack([np.tile(webcam, (30, 1)), others]).astype(np.float16))
    c.features = np.where(np.arange(23)[:, None] % 2, webcam, [1.0, 0.1, 0]).astype(np.float16)
    top = c.best(5, IMAGE_KNN)
    n_places = (~np.isnan(top.latitude)).sum(axis=1)
    np.testing.assert_array_equal(n_places, np.where(np.arange(23) % 2, 1, 5))
    np.testing.assert_array_equal(np.isnan(top.longitude), np.isnan(top.latitude))
    assert (np.diff(np.isnan(top.latitude).astype(int), axis=1) >= 0).all()  # at the end of a list only


@pytest.mark.parametrize("strength", [0.0, 0.5, 6.0])
@pytest.mark.parametrize("n_apart", [0, 4, 9])
def test_probabilities_are_those_of_a_softmax_over_gallery_and_candidates(case, n_apart, strength):
    # Of the gallery's nine places some are training places, n_apart are not; some training places stand there twice.
    at, apart = places(40, 3), places(n_apart + 2, 4)
    c = case(gallery=tuple(np.append(a[: 9 - n_apart], b[2:]) for a, b in zip(at, apart, strict=True)))
    c.training_places = tuple(np.where(np.arange(40) % 5 == 4, np.roll(angle, 1), angle) for angle in at)
    c.training = kriging.index(*c.training_places, c.training.features)
    k, setting, start = 6, Setting(strength, "nearest"), 0
    of_gallery = list(zip(*c.gallery, strict=True))
    for found in c.candidates(k):
        top, scores = refine.rank(found, setting, 2 * k), refine.score(found, setting)
        for row, photo in enumerate(c.features[start : start + len(scores)].astype(float)):
            photo /= np.linalg.norm(photo)
            candidates = {}
            for at, score in zip(zip(found.latitude[row], found.longitude[row], strict=True), scores[row], strict=True):
                if np.isfinite(score):
                    candidates[at] = max(score, candidates.get(at, -np.inf))
            everything = list({*of_gallery, *candidates})
            weight = dict(zip(everything, np.exp(50 * unit_vectors(*np.array(everything).T) @ photo - 50), strict=True))
            together = sum(weight[at] for at in candidates) / sum(weight.values())
            by_score = sorted(candidates, key=lambda at: -candidates[at])
            share = np.exp(np.array([candidates[at] for at in by_score]) - candidates[by_score[0]])
            probability = top.probability[row][~np.isnan(top.probability[row])]
            np.testing.assert_allclose(probability, together * share / share.sum(), rtol=1e-4, atol=1e-12)
            assert probability.sum() <= 1 + 1e-12
        start += len(scores)
    assert start == 23


def test_several_lots_have_the_candidates_that_each_has_alone_from_one_pass_over_the_gallery(case, monkeypatch):
    c = case(gallery=places(9, 4))
    known = c.gallery, c.training, c.training_places, c.semivariogram, 7
    lots = [c.features[:13], c.features[13:]]
    alone = [list(refine.find_candidates(c.model, [lot], *known)[0]) for lot in lots]
    calls = []
    monkeypatch.setattr(refine, "embed_places", lambda *of: calls.append(1) or embed_places(*of))
    together = [list(found) for found in refine.find_candidates(c.model, lots, *known)]
    assert len(calls) == 1
    assert [sum(len(found.latitude) for found in lot) for lot in together] == [13, 10]
    for ours, expected in zip(together, alone, strict=True):
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(a.latitude, b.latitude)
            np.testing.assert_array_equal(a.in_gallery, b.in_gallery)
            np.testing.assert_allclose(a.log_probability, b.log_probability, rtol=1e-5, atol=1e-5)


def test_errors_are_those_of_the_first_ranked_place_over_the_antimeridian_too(case):
    c = case()
    for setting in (MODEL, Setting(6.0, "kriged"), IMAGE_KNN):
        found, start = c.candidates(7), 0
        for of_chunk in found:
            truth = [angle[start : start + len(of_chunk.latitude)] for angle in c.truth]
            start += len(of_chunk.latitude)
            top = refine.rank(of_chunk, setting, 1)
            expected = great_circle_km(*truth, top.latitude[:, 0], top.longitude[:, 0])
            np.testing.assert_array_equal(refine.best_error_km(of_chunk, setting, *truth), expected)
        assert start == 23


def test_the_candidates_keep_the_probability_that_the_model_gives_them_together(case):
    c = case()
    (plain, refined) = (c.best(40, setting).probability for setting in (MODEL, Setting(3.0, "kriged")))
    np.testing.assert_allclose(refined.sum(1), plain.sum(1), rtol=1e-4)
    assert (np.diff(refined, axis=1) <= 0).all()
