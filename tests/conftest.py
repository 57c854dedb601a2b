"""What the tests of several stages need."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from stages.geo import unit_vectors
from stages.shards import feature_schema


def write_feature_shard(path, latitude, longitude, feature, **columns):
    """Write a shard of features (n, d) at places (n,), as the features stage leaves it; ids count up."""
    schema, n = feature_schema(np.shape(feature)[1]), len(latitude)
    values = {"id": [str(row) for row in range(n)], "latitude": latitude, "longitude": longitude, **columns}
    values["feature"] = list(np.asarray(feature, np.float16))
    table = pa.table([pa.array(values.get(field.name, [None] * n), field.type) for field in schema], schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_table(table)


@pytest.fixture
def write_features():
    return write_feature_shard


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
        return unit_vectors(latitude_deg, longitude_deg).float()


@pytest.fixture
def model():
    return CompassModel()
