import pytest
import torch

from stages import geo


class CompassModel(torch.nn.Module):
    """A model with a known answer: a photo's feature is its unit vector, a place's embedding is the place's."""

    def __init__(self, width=3, scale=50.0):
        super().__init__()
        self.image_encoder = torch.nn.Module()
        self.image_encoder.mlp = torch.nn.Sequential(torch.nn.Linear(width, 3))
        self.logit_scale = torch.nn.Parameter(torch.tensor(scale).log())

    @property
    def device(self):
        return self.logit_scale.device

    def image_embedding(self, feature):
        return torch.nn.functional.normalize(feature, dim=1)

    def place_embedding(self, latitude_deg, longitude_deg):
        return geo.unit_vectors(latitude_deg.float(), longitude_deg.float())


@pytest.fixture
def model():
    return CompassModel()
