"""How alike a photo is to what is known of a place: to the training photo next to it, and to its kriged appearance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.linalg import vecdot
from torch.nn.functional import normalize

from stages.evaluate.retrieval import chunked
from stages.geo import chord_km, unit_vectors
from stages.variogram.models import Semivariogram

NEIGHBOURS = 16  # nearest training photos that a place's appearance is kriged from
_LEAST_NUGGET = 1e-6  # of the sill: photos of one place would make the system singular without a nugget
_ROW_CHUNK = 8192  # rows of features in memory at a time: places and their neighbours, or the mean's


@dataclass(frozen=True)
class Training:
    """The training photos, findable by place. features: (n, d) array or rows on disk; vectors: (n, 3); mean: (d,)."""

    features: Sequence
    vectors: np.ndarray
    tree: cKDTree
    mean: np.ndarray


def index(latitude_deg: np.ndarray, longitude_deg: np.ndarray, features: Sequence) -> Training:
    """Training photos at places (n,) with features (n, d), n >= 1, indexed once; the features are read in chunks."""
    vectors = unit_vectors(latitude_deg, longitude_deg)
    total = sum(rows.sum(axis=0, dtype=np.float64) for rows in chunked(features, _ROW_CHUNK))
    return Training(features, vectors, cKDTree(vectors), (total / len(features)).astype(np.float32))


def kriging_weights(place: np.ndarray, neighbour: np.ndarray, model: Semivariogram) -> np.ndarray:
    """Simple kriging weights of m neighbours' features, as deviations from the mean, for each of u places.

    place: (u, 3), neighbour: (u, m, 3), unit vectors.  Returns (u, m) float64: the w of (C + nugget I) w = c.
    The nugget is what photos of one place differ by, so it is noise, also in a photo at the very place: what is
    expected there is a mean over the neighbours.  Source: Cressie (1993), Statistics for Spatial Data, ch. 3.
    """
    covariance, to_place = (
        model.partial_sill * model.correlation_at(chord_km(((a - b) ** 2).sum(-1)))
        for a, b in ((neighbour[:, :, None], neighbour[:, None]), (neighbour, place[:, None]))
    )
    nugget = max(model.nugget, _LEAST_NUGGET * model.sill)
    return np.linalg.solve(covariance + nugget * np.eye(neighbour.shape[1]), to_place[..., None])[..., 0]


def expected_features(place: np.ndarray, row: np.ndarray, of_row: Tensor, training: Training, model) -> Tensor:
    """The kriged appearance of u places, as unit vectors (u, d) float32.

    place: (u, 3) unit vectors.  row: (u, m) neighbours among the training photos.  of_row: (u, m, d) their features.
    """
    weight = torch.from_numpy(kriging_weights(place, training.vectors[row], model).astype(np.float32))
    # mean + w · (f - mean), without a copy of the features that has the mean taken off.
    expected = torch.from_numpy(training.mean) * (1 - weight.sum(1, keepdim=True)) + (weight[:, None] @ of_row)[:, 0]
    # tiny: a mean of 0, of features that were centred, has no direction.
    return normalize(expected, dim=1, eps=torch.finfo(torch.float32).tiny)


def similarities(
    photos: np.ndarray,
    latitude_deg: np.ndarray,
    longitude_deg: np.ndarray,
    training: Training,
    model: Semivariogram,
) -> dict[str, np.ndarray]:
    """Cosine similarity of n photos to what is known of c places each: {"nearest": (n, c), "kriged": (n, c)}, float32.

    photos: (n, d) float32 unit vectors.  latitude_deg, longitude_deg: (n, c).
    "nearest" is the similarity to the training photo nearest to the place, the greatest one of several that are
    equally near; "kriged" that to the appearance that the semivariogram expects there.
    Memory: the arguments, the result and 8192 training features.
    """
    places, place_of = np.unique(np.stack([latitude_deg.ravel(), longitude_deg.ravel()]), axis=1, return_inverse=True)
    vectors = unit_vectors(*places)
    by_place = np.argsort(place_of.ravel(), kind="stable")  # pairs of a photo and a place, those of a place together
    sorted_place = place_of.ravel()[by_place]
    photo_of = np.repeat(np.arange(len(photos)), latitude_deg.shape[1])
    nearest = torch.full((latitude_deg.size,), -torch.inf)
    kriged = torch.empty(latitude_deg.size)
    m = min(NEIGHBOURS, len(training.vectors))
    for of_chunk in chunked(np.arange(len(vectors)), max(1, _ROW_CHUNK // m)):
        chord, row = training.tree.query(vectors[of_chunk], range(1, m + 1))
        # torch turns float16 into float32 several times faster than NumPy does.
        of_row = torch.from_numpy(training.features[row.ravel()]).float().unflatten(0, row.shape)
        expected = expected_features(vectors[of_chunk], row, of_row, training, model)
        pair = by_place[slice(*np.searchsorted(sorted_place, (of_chunk[0], of_chunk[-1] + 1)))]
        photo, place = torch.from_numpy(photos[photo_of[pair]]), place_of.ravel()[pair] - of_chunk[0]
        kriged[pair] = vecdot(photo, expected[place])
        for neighbour in range(m):
            is_nearest = (chord[:, neighbour] == chord[:, 0])[place]
            similarity = vecdot(photo[is_nearest], of_row[place[is_nearest], neighbour])
            nearest[pair[is_nearest]] = torch.maximum(nearest[pair[is_nearest]], similarity)
    return {name: of.numpy().reshape(latitude_deg.shape) for name, of in (("nearest", nearest), ("kriged", kriged))}
