import math

import numpy as np
import pytest
import torch

from stages.geo import great_circle_km
from stages.train import calibration
from stages.train.calibration import TEMPERATURES, best_temperature, calibrate
from stages.train.validation import Validation


def drawn(n, seed):
    """Logits (n, 50) of places, and the one at which each photo is, drawn by their softmax: (n, 50) bool."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, 50, generator=generator)
    place = torch.multinomial(logits.softmax(1), 1, generator=generator)
    return logits, torch.zeros_like(logits, dtype=torch.bool).scatter_(1, place, True)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_logits_that_are_too_large_by_a_factor_have_it_as_their_temperature(temperature):
    logits, is_near = drawn(4000, seed=1)
    # A step of the grid, 9 %: the likelihood's own standard error here is 2 %.
    assert best_temperature([(temperature * logits, is_near)]) == pytest.approx(temperature, rel=0.1)


def test_chunks_give_what_the_whole_gives():
    logits, is_near = drawn(300, seed=2)
    logits *= 3
    assert best_temperature(zip(logits.split(64), is_near.split(64), strict=True)) == best_temperature(
        [(logits, is_near)]
    )


def test_the_probability_of_a_neighbourhood_is_that_of_its_places_together():
    logits = torch.tensor([[2.0, 2.0, 0.0]])
    is_near = torch.tensor([[True, True, False]])
    likelihood = [2 * math.exp(2 / t) / (2 * math.exp(2 / t) + 1) for t in TEMPERATURES]
    assert best_temperature([(logits, is_near)]) == TEMPERATURES[int(np.argmax(likelihood))] == 0.5


def test_a_photo_without_a_place_near_it_tells_nothing():
    logits, is_near = drawn(200, seed=3)
    lost = torch.randn(50, 50, generator=torch.Generator().manual_seed(4)), torch.zeros(50, 50, dtype=torch.bool)
    assert best_temperature([(logits, is_near), lost]) == best_temperature([(logits, is_near)])
    assert best_temperature([lost]) == 1.0


def test_calibrating_divides_the_logits_and_leaves_the_order(model, monkeypatch):
    monkeypatch.setattr(calibration, "_CHUNK", 7)
    monkeypatch.setattr(calibration, "_PLACES", 11)
    rng = np.random.default_rng(1)
    gallery = rng.uniform(-60, 60, 50), rng.uniform(-180, 180, 50)
    place = tuple(angle[:20] + 0.1 for angle in gallery)
    feature = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        model.logit_scale.fill_(math.log(30))
        image, places = model.image_embedding(feature), model.place_embedding(*map(torch.from_numpy, gallery))
        is_near = great_circle_km(*(a[:, None] for a in place), *(a[None] for a in gallery)) <= 25
        expected = best_temperature([(30 * image @ places.T, torch.from_numpy(is_near))])
    assert is_near.sum(1).min() >= 1
    temperature = calibrate(model, Validation(feature.numpy(), place, gallery, torch.device("cpu")))
    assert temperature == expected > 1  # of an untrained model: it is too sure
    assert model.logit_scale.exp().item() == pytest.approx(30 / temperature, rel=1e-6)
    with torch.no_grad():
        assert torch.equal(model.image_embedding(feature), image)
