"""What the tests of several stages need."""

import numpy as np
import pyarrow as pa
import pytest

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
