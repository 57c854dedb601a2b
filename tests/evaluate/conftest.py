"""Semivariograms of every kind."""

import numpy as np
import pytest

from stages.variogram.models import Semivariogram


def make_semivariogram(name="exponential", nugget=0.3, partial_sill=0.6, range_km=500.0, **shape):
    """A semivariogram as the variogram stage would have fitted it; without a range for "nugget" and "linear"."""
    numbers = {"weighted_rmse": 0.01, "r2": 0.9, **{key: np.ones(3) for key in ("semivariance", "std", "se_block")}}
    numbers |= {"lag_km": np.array([1.0, 10.0, 1000.0]), "n_pairs": np.ones(3, int), "se_model": np.ones(3)}
    return Semivariogram(name, nugget, partial_sill, range_km, shape, {}, **numbers)


SEMIVARIOGRAMS = {
    "exponential": make_semivariogram(),
    "nested": make_semivariogram("nested", short_share=0.5, short_ratio=0.01),
    "without a nugget": make_semivariogram(nugget=0.0),
    "without structure": make_semivariogram("nugget", 0.9, 0.0, None),
    "without range": make_semivariogram("linear", 0.2, 0.7, None, reach_km=10_000.0),
}


@pytest.fixture
def semivariogram():
    return make_semivariogram


@pytest.fixture(params=SEMIVARIOGRAMS)
def any_semivariogram(request):
    return SEMIVARIOGRAMS[request.param]
