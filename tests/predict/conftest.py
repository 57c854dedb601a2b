import numpy as np
import pytest
import torch
from PIL import Image

from stages import geo


class CompassModel(torch.nn.Module):
    """A model with a known answer: a photo's feature is its unit vector, a place's embedding is the place's."""

    def __init__(self):
        super().__init__()
        self.image_encoder = torch.nn.Module()
        self.image_encoder.mlp = torch.nn.Sequential(torch.nn.Linear(3, 3))
        self.logit_scale = torch.nn.Parameter(torch.tensor(50.0).log())
        self.n_embedded = 0

    @property
    def device(self):
        return self.logit_scale.device

    def image_embedding(self, feature):
        return torch.nn.functional.normalize(feature, dim=1)

    def place_embedding(self, latitude_deg, longitude_deg):
        self.n_embedded += len(latitude_deg)
        return geo.unit_vectors(latitude_deg, longitude_deg).float()


@pytest.fixture
def model():
    return CompassModel()


@pytest.fixture
def take_photo():
    """A function that saves a photo whose colour is its place's unit vector, from -1 as 0 to 1 as 255."""

    def take(path, latitude, longitude):
        path.parent.mkdir(parents=True, exist_ok=True)
        vector = geo.unit_vectors(np.float64(latitude), np.float64(longitude))
        Image.new("RGB", (8, 6), tuple(round(127.5 * (x + 1)) for x in vector)).save(path)
        return path

    return take


class ColourEncoder:
    """An encoder that gives the unit vector that is the colour of such a photo."""

    width = 3

    def preprocess(self, image):
        return torch.tensor(image.getpixel((0, 0)))

    def encode(self, images):
        return images.numpy().astype(np.float32) / 127.5 - 1


@pytest.fixture
def encoder():
    return ColourEncoder()
