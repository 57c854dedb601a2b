import math

import numpy as np
import pytest
import torch

from stages.cli import InputError
from stages.train import validation as module
from stages.train.validation import Validation, evenly

CPU = torch.device("cpu")


class Perfect:
    """A model whose photo's feature is its place on a small map, so that the nearest place is known."""

    logit_scale = torch.tensor(math.log(50.0))

    def image_embedding(self, feature):
        return torch.nn.functional.normalize(feature, dim=1)

    def place_embedding(self, latitude_deg, longitude_deg):
        on_map = torch.stack([latitude_deg, longitude_deg, torch.full_like(latitude_deg, 10.0)], dim=1)
        return torch.nn.functional.normalize(on_map.float(), dim=1)


# One degree of latitude is 111.19 km: the four photos are 0, 11.1, 111 and 2,780 km from the nearest gallery place.
PLACE = np.array([0.0, 0.1, 1.0, 35.0]), np.zeros(4)
GALLERY = np.array([60.0, 0.0, 10.0]), np.zeros(3)
FEATURE = np.stack([*PLACE, np.full(4, 10.0)], axis=1)


@pytest.mark.parametrize("chunk", [1, 2, 4096])
def test_errors_are_to_the_place_that_is_most_similar(chunk, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    found = Validation(FEATURE, PLACE, GALLERY, CPU).measure(Perfect())
    accuracies = {key: value for key, value in found.items() if key.startswith("accuracy")}
    assert accuracies == {"accuracy_1km": 0.25, "accuracy_25km": 0.5, "accuracy_200km": 0.75, "accuracy_2500km": 0.75}
    assert found["median_error_km"] == pytest.approx(11.12, abs=0.01)


def test_the_loss_is_infonce_over_the_validation_places():
    found = Validation(FEATURE, PLACE, GALLERY, CPU).measure(Perfect())["validation_loss"]
    unit = FEATURE / np.linalg.norm(FEATURE, axis=1, keepdims=True)
    logits = 50 * unit @ unit.T
    assert found == pytest.approx(np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits)), rel=1e-5)


def test_no_validation_photo_is_refused():
    with pytest.raises(InputError, match="no validation photo.*shard.validation_fraction"):
        Validation(np.empty((0, 3)), (np.empty(0), np.empty(0)), GALLERY, CPU)


@pytest.mark.parametrize(("n", "size"), [(1, 5), (5, 5), (7, 3), (1000, 999)])
def test_evenly_spaced_rows_are_distinct_and_span_all(n, size):
    rows = evenly(n, size)
    assert len(np.unique(rows)) == min(n, size)
    assert rows[0] == 0
    assert rows[-1] == n - 1
