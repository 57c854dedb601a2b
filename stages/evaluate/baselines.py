"""Two answers that need no training: the place of the most similar training photo, and the densest place of all."""

import numpy as np
import torch

from stages.evaluate.retrieval import GALLERY_CHUNK, chunked, retrieve
from stages.geo import EARTH_RADIUS_KM, coordinates, equal_earth, great_circle_km, unit_vectors
from stages.shards import FeatureRows

CELL_KM = 25.0  # side of a cell of equal area: the field's "city"


def image_knn(queries: torch.Tensor, training: FeatureRows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k training photos most like each query, the most similar first, and their cosine similarities.

    queries: (n, d) float32 unit vectors.  Returns (n, k) int64 and (n, k) float32.
    The prediction is the first one's place: a mean of several would fall between towns.
    """
    chunks = (torch.from_numpy(rows).to(queries) for rows in chunked(training, GALLERY_CHUNK))
    found = retrieve(queries, chunks, k)
    return found.row.cpu().numpy(), found.similarity.cpu().numpy()


def most_frequent(latitude_deg: np.ndarray, longitude_deg: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the places in the middle of the k fullest cells, the fullest first, and each cell's share of all places.

    Cells are squares of 25 km on the Equal Earth map, so a full cell is a dense one wherever it lies. Its middle is the
    place nearest to the mean of its places, hence a place with a photo.  Both (n,).  Returns (k,) int64 and (k,).
    """
    x, y = equal_earth(latitude_deg, longitude_deg)
    cells = np.floor(np.column_stack([x, y]) * EARTH_RADIUS_KM / CELL_KM).astype(np.int64)
    _, cell, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    fullest = np.argsort(-count, kind="stable")[:k]
    rows = np.array([_middle(np.flatnonzero(cell == c), latitude_deg, longitude_deg) for c in fullest])
    return rows, count[fullest] / len(latitude_deg)


def _middle(rows: np.ndarray, latitude_deg: np.ndarray, longitude_deg: np.ndarray) -> int:
    """The row nearest to the mean of some rows' places, the lowest one of several."""
    latitude_deg, longitude_deg = latitude_deg[rows], longitude_deg[rows]
    mean = coordinates(unit_vectors(latitude_deg, longitude_deg).mean(0))
    return int(rows[np.argmin(great_circle_km(latitude_deg, longitude_deg, *mean))])
