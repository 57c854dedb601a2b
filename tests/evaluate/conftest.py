import numpy as np
import pyarrow as pa
import pytest
import torch

from stages import geo, shards


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


@pytest.fixture
def write_split():
    """A function that writes a split's feature shard: places whose features are their unit vectors."""

    def write(folder, latitude, longitude, **names):
        n = len(latitude)
        feature = geo.unit_vectors(np.array(latitude), np.array(longitude)).astype(np.float16)
        columns = {
            "id": [str(i) for i in range(n)],
            "latitude": latitude,
            "longitude": longitude,
            **dict.fromkeys(("country", "region", "sub_region", "city", "sequence", "captured_at"), [None] * n),
            **names,
            "feature": pa.FixedSizeListArray.from_arrays(pa.array(feature.ravel(), pa.float16()), 3),
        }
        folder.mkdir(parents=True)
        schema = shards.feature_schema(3)
        with pa.OSFile(str(folder / "00000.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(pa.table(columns, schema=schema))

    return write
