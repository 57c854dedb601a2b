import numpy as np
import pytest

from stages.world import look
from stages.world.draw import draw_photo
from stages.world.truth import LATENTS


def test_a_photo_depends_on_nothing_but_place_size_and_seed():
    u = np.full(len(LATENTS), 0.4)
    photo = draw_photo(u, 48, [1, 0, 7])
    assert photo.shape == (48, 64, 3)
    assert photo.dtype == np.uint8
    np.testing.assert_array_equal(photo, draw_photo(u, 48, [1, 0, 7]))
    assert np.any(photo != draw_photo(u, 48, [1, 0, 8]))


@pytest.mark.parametrize("height_px", [32, 33, 97, 300])
def test_photos_of_any_size_and_of_the_most_extreme_places_can_be_drawn(height_px):
    rng = np.random.default_rng(0)
    corners = [np.zeros(len(LATENTS)), np.ones(len(LATENTS)), *rng.integers(0, 2, (6, len(LATENTS))).astype(float)]
    for index, u in enumerate(corners):
        photo = draw_photo(u, height_px, [0, 0, index])
        assert photo.shape == (height_px, round(height_px * 4 / 3), 3)
        assert photo.std() > 10


def test_every_latent_shows_in_the_picture():
    for index in range(len(LATENTS)):
        low, high = np.full((2, len(LATENTS)), 0.3)
        high[index] = 0.75
        means = [np.mean([draw_photo(u, 48, [3, 0, i]) for i in range(12)], axis=0) for u in (low, high)]
        # Twelve pictures' mean differs by far more than accidents, which change it by about one grey level.
        assert np.abs(means[0] - means[1]).mean() > 2, list(LATENTS)[index]


def test_photos_of_a_place_are_more_alike_than_photos_of_different_places():
    rng = np.random.default_rng(0)
    photos = np.array(
        [[draw_photo(u, 32, [0, place, i]) for i in range(4)] for place, u in enumerate(rng.random((25, len(LATENTS))))]
    ).astype(float)
    within = np.abs(photos[:, 0] - photos[:, 1]).mean()
    between = np.abs(photos[1:, 0] - photos[:-1, 1]).mean()
    assert within < 0.6 * between


def test_a_ramp_ends_where_its_colours_end():
    assert look.ramp("road", 0.0) == look.RAMPS["road"][0]
    assert look.ramp("road", 1.0) == look.RAMPS["road"][-1]
    assert look.ramp("road", 1.5) == look.RAMPS["road"][-1]
    assert look.ramp("leaf", 0.125) == pytest.approx(np.mean(look.RAMPS["leaf"][:2], axis=0))
