"""Small photos, models and a stand-in for the fitted semivariogram."""

import numpy as np
import pytest
import torch

from stages.geo import unit_vectors
from stages.params import SemivariogramLoss, load_params
from stages.train.loop import Photos
from stages.train.model import seeded_model
from stages.train.validation import Validation

WIDTHS = {"embedding_width": 8, "hidden_width": 16, "fourier_width": 4, "sigmas": [1.0, 16.0]}
FEATURE_WIDTH = 6


class Exponential:
    """An exponential semivariogram of nugget 0.15, sill 0.6 and range 500 km, with a deviation that grows with lag."""

    name, nugget, partial_sill, range_km = "exponential", 0.15, 0.45, 500.0

    def correlation_at(self, lag_km):
        return np.exp(-3 * np.asarray(lag_km) / self.range_km)

    def semivariance_at(self, lag_km):
        return self.nugget + self.partial_sill * (1 - self.correlation_at(lag_km))

    def std_at(self, lag_km):
        return 0.1 + 0.1 * (1 - self.correlation_at(lag_km))


@pytest.fixture
def semivariogram():
    return Exponential()


@pytest.fixture
def train_params():
    strengths = {"semivariogram": SemivariogramLoss(beta_hard=1.0, beta_false=3.0, soft_share=0.1, soft_length_km=50.0)}
    return load_params().train.model_copy(
        update={
            "seed": 3,
            "epochs": 4,
            "batch_size": 16,
            "queue_size": 24,
            "learning_rate": 0.01,
            **strengths,
            **WIDTHS,
        }
    )


def smooth_features(latitude_deg, longitude_deg, width=FEATURE_WIDTH):
    """Unit features (n, width) that vary slowly over the sphere."""
    mix = np.random.default_rng(0).normal(size=(3, width))
    feature = np.tanh(3 * unit_vectors(latitude_deg, longitude_deg) @ mix)
    return feature / np.linalg.norm(feature, axis=1, keepdims=True)


def places(n, seed):
    """Places (n,) in degrees, evenly over the sphere, the first two at the same place."""
    rng = np.random.default_rng(seed)
    latitude_deg, longitude_deg = np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)
    latitude_deg[1], longitude_deg[1] = latitude_deg[0], longitude_deg[0]
    return latitude_deg, longitude_deg


@pytest.fixture
def photos():
    latitude_deg, longitude_deg = places(70, seed=1)
    feature = torch.from_numpy(smooth_features(latitude_deg, longitude_deg).astype(np.float32))
    return Photos(latitude_deg, longitude_deg, lambda rows: feature[torch.from_numpy(rows)])


@pytest.fixture
def validation(photos):
    place = places(20, seed=2)
    return Validation(smooth_features(*place), place, (photos.latitude_deg, photos.longitude_deg), torch.device("cpu"))


@pytest.fixture
def model():
    return seeded_model(5, feature_width=FEATURE_WIDTH, **WIDTHS)
