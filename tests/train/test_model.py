import numpy as np
import pytest
import torch

from stages.train.model import FourierFeatures, seeded_model

WIDTHS = {"embedding_width": 8, "hidden_width": 16, "fourier_width": 4, "sigmas": [1.0, 16.0]}


def test_fourier_features_are_the_cosines_then_the_sines():
    layer = FourierFeatures(2.0, 3)
    xy = torch.tensor([[0.3, -0.2], [0.0, 0.0]])
    found = layer(xy)
    for row, (x, y) in enumerate(xy.tolist()):
        phases = [2 * np.pi * (x * float(b[0]) + y * float(b[1])) for b in layer.b]
        np.testing.assert_allclose(found[row, :3], np.cos(phases), atol=1e-5)
        np.testing.assert_allclose(found[row, 3:], np.sin(phases), atol=1e-5)


def test_frequencies_have_the_deviation_sigma_and_are_not_trained():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        b = FourierFeatures(16.0, 20_000).b
    assert float(b.std()) == pytest.approx(16, rel=0.02)
    assert not b.requires_grad


def test_embeddings_are_unit_vectors_of_the_widths_asked_for(model):
    place = torch.tensor([0.0, 90.0, -90.0, 12.0]), torch.tensor([0.0, 180.0, -180.0, 179.99])
    for embedding in (model.place_embedding(*place), model.image_embedding(torch.randn(4, 6))):
        assert embedding.shape == (4, 8)
        np.testing.assert_allclose(embedding.detach().norm(dim=1), 1, rtol=1e-6)


def test_weights_depend_on_the_seed_and_leave_the_callers_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    one, same, other = (seeded_model(seed, feature_width=6, **WIDTHS).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["location_encoder.LocEnc0.capsule.0.b"], other["location_encoder.LocEnc0.capsule.0.b"])


def test_bfloat16_autocast_leaves_the_phases_in_float32():
    layer = FourierFeatures(256.0, 32)
    xy = torch.rand(16, 2, generator=torch.Generator().manual_seed(1))
    expected = layer(xy)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(xy), expected)
