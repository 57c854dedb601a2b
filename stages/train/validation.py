"""How well a model places the validation photos, cheaply enough to be asked during training."""

import numpy as np
import torch
from torch import Tensor

from stages.cli import InputError
from stages.geo import great_circle_km
from stages.train.losses import infonce
from stages.train.model import GeoCLIP

MAX_PHOTOS, MAX_GALLERY = 4096, 20_000  # evenly spaced rows of larger splits: a curve, not the evaluation
ACCURACY_KM = (1, 25, 200, 2500)
_CHUNK = 4096  # places embedded at a time


class Validation:
    """Validation photos, and the training places among which each is looked for."""

    def __init__(
        self,
        feature: np.ndarray,
        place: tuple[np.ndarray, np.ndarray],
        gallery: tuple[np.ndarray, np.ndarray],
        device: torch.device,
    ):
        """feature: (v, d), their places and the gallery: latitudes and longitudes in degrees."""
        if not len(feature):
            raise InputError("there is no validation photo to choose by; raise shard.validation_fraction")
        self.feature = torch.from_numpy(feature.astype(np.float32)).to(device)
        self.place = [torch.from_numpy(angle).to(device) for angle in place]
        self.gallery = [torch.from_numpy(angle).to(device) for angle in gallery]

    @torch.no_grad()
    def measure(self, model: GeoCLIP) -> dict[str, float]:
        """Validation loss, accuracies and median error; the loss is infonce over all validation places.

        It is the same measure whatever loss is trained, so that the losses' curves compare.
        """
        image = model.image_embedding(self.feature)
        logits = model.logit_scale.exp() * image @ model.place_embedding(*self.place).T
        error_km = great_circle_km(*(angle[self._nearest(model, image)] for angle in self.gallery), *self.place)
        return {
            "validation_loss": float(infonce(logits, None, None, None).mean()),
            **{f"accuracy_{km}km": float((error_km <= km).double().mean()) for km in ACCURACY_KM},
            "median_error_km": float(error_km.median()),
        }

    def _nearest(self, model: GeoCLIP, image: Tensor) -> Tensor:
        """Row of the gallery most similar to each image embedding (v, e). Returns (v,) int64."""
        best = torch.full((len(image),), -torch.inf, device=image.device)
        row = torch.zeros(len(image), dtype=torch.int64, device=image.device)
        for start in range(0, len(self.gallery[0]), _CHUNK):
            chunk = [angle[start : start + _CHUNK] for angle in self.gallery]
            similarity, index = (image @ model.place_embedding(*chunk).T).max(dim=1)
            row = torch.where(similarity > best, index + start, row)
            best = torch.maximum(similarity, best)
        return row


def evenly(n: int, size: int) -> np.ndarray:
    """At most size rows of n, evenly spaced. Returns (min(n, size),) int64."""
    return np.linspace(0, n - 1, min(n, size)).round().astype(np.int64)
