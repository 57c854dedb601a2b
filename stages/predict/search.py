"""A release's gallery of places, searched for photos by their features."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.evaluate.gallery import embed_photos
from stages.evaluate.retrieval import Retrieved, chunked, retrieve
from stages.geo import EARTH_RADIUS_KM, unit_vectors
from stages.train.calibration import NEAR_KM
from stages.train.model import GeoCLIP

_TILE = 2**22  # distances that are compared at a time: 32 MB


@dataclass(frozen=True)
class Gallery:
    """The g places that a model knows and their embeddings."""

    latitude: np.ndarray  # (g,) float64, degrees
    longitude: np.ndarray  # (g,) float64, degrees
    embeddings: Callable[[], Iterable[Tensor]]  # gives chunks (c, e) on the model's device, at each call


@dataclass(frozen=True)
class Answers:
    """The k best places of n photos, best first; all (n, k)."""

    latitude: np.ndarray  # float64, degrees
    longitude: np.ndarray  # float64, degrees
    probability: np.ndarray  # float32, of this place by softmax over the gallery
    probability_near: np.ndarray  # float64, of all places of the gallery within NEAR_KM of this one


@torch.inference_mode()
def find(model: GeoCLIP, features: np.ndarray, gallery: Gallery, k: int) -> Answers:
    """The k most probable places of a gallery for photos by their features (n, d); fewer if the gallery has fewer.

    Goes through the gallery's embeddings twice.
    """
    queries, scale = embed_photos(model, features), float(model.logit_scale.exp())
    found = retrieve(queries, gallery.embeddings(), k, scale=scale)
    places = torch.from_numpy(unit_vectors(gallery.latitude, gallery.longitude)).to(queries.device)
    near = probability_within(NEAR_KM, found, queries, places, gallery.embeddings(), scale=scale)
    row = found.row.cpu().numpy()
    probability = found.probability(scale).cpu().numpy()
    return Answers(gallery.latitude[row], gallery.longitude[row], probability, near.cpu().numpy())


def probability_within(
    radius_km: float,
    found: Retrieved,
    queries: Tensor,
    places: Tensor,
    embeddings: Iterable[Tensor],
    *,
    scale: float,
) -> Tensor:
    """Share of a photo's softmax over the whole gallery that lies within (<=) radius_km of each of its best places.

    found: of n photos, k places each.  queries: (n, e), as they were searched for.  places: (g, 3) float64 unit vectors
    of the gallery.  embeddings: theirs, in chunks (c, e).  radius_km: at least 0.01.  Returns (n, k) float64 in [0, 1].
    Memory: besides what is given, one chunk and some tiles of 4 million numbers.
    """
    # By the cosine of the angle, in float64: at 25 km that is 8e-6 below 1, and float32 has a grain of 6e-8. (At 1 m
    # even float64 has too few digits, and a place would not be within a radius of itself.)
    least_cosine = math.cos(min(radius_km / EARTH_RADIUS_KM, math.pi))
    n, k = found.row.shape
    share = torch.zeros((n, k), dtype=torch.float64, device=queries.device)
    start = 0
    for chunk in embeddings:
        here = places[start : start + len(chunk)].T
        for tile in chunked(torch.arange(n, device=queries.device), max(1, _TILE // (max(k, 1) * len(chunk)))):
            is_near = places[found.row[tile]] @ here >= least_cosine  # (t, k, c)
            probability = torch.exp(scale * (queries[tile] @ chunk.T) - found.log_normalizer[tile, None])
            share[tile] += (is_near.to(probability.dtype) @ probability[:, :, None]).squeeze(2)
        start += len(chunk)
    return share.clamp(max=1)  # rounding in float32 can push a sum past 1
