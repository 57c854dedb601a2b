"""Pairs of photos beside the fitted semivariogram: which negatives the loss will push harder, and which less."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from stages.geo import chord_km, unit_vectors
from stages.variogram.blocks import spatial_blocks
from stages.variogram.empirical import unit_rows
from stages.variogram.models import Semivariogram
from stages.variogram.stratified import draw_pairs, pair_distances

N_ANCHORS = 1000
N_CANDIDATES = 20_000
ANCHORS_AT_ONCE = 100
KINDS = ("hard_negative", "false_negative")


@dataclass(frozen=True)
class Pair:
    """Two photos (row numbers), their lag, cosine distance and expected distance, the standardised residual z, and how
    much the loss weighs them, before its beta.
    """

    kind: str
    a: int
    b: int
    lag_km: float
    distance: float
    expected_distance: float
    z: float
    strength: float


def draw_cloud(
    latitude: np.ndarray, longitude: np.ndarray, features, edges_km: np.ndarray, n_pairs: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lag (km) and cosine distance of up to n_pairs pairs per lag bin, of a sample of the photos. Returns two (m,)."""
    rows = np.arange(0, len(latitude), max(1, len(latitude) // N_CANDIDATES))
    vectors = unit_vectors(latitude[rows], longitude[rows])
    i, j, _ = draw_pairs(vectors, np.arange(len(rows)), edges_km, n_pairs, seed)
    return pair_distances(i, j, vectors, unit_rows(features, rows))


def find_examples(
    latitude: np.ndarray, longitude: np.ndarray, features, drives: np.ndarray, model: Semivariogram, n_examples: int
) -> list[Pair]:
    """The pairs of each kind that the loss weighs most: z beyond the range (hard), c(h) sigmoid(z) within it (false).

    No photo, drive or pair of spatial blocks comes twice among the pairs of a kind. Of many photos a sample is
    searched. [] for a model without a range. latitude, longitude, drives: (n,).
    """
    if model.range_km is None:
        return []
    rows = np.arange(0, len(latitude), max(1, len(latitude) // N_CANDIDATES))
    vectors, unit = unit_vectors(latitude[rows], longitude[rows]), unit_rows(features, rows)
    best: dict[str, list[Pair]] = {kind: [] for kind in KINDS}
    anchors = np.arange(0, len(rows), max(1, len(rows) // N_ANCHORS))
    # gamma and s are smooth in log lag: a fine table is exact to 1e-4 and a hundred times as fast.
    table_km = np.geomspace(1e-3, 2.1e4, 4000)
    gamma, std, correlation = (curve(table_km) for curve in (model.semivariance_at, model.std_at, model.correlation_at))
    for part in np.array_split(anchors, max(1, len(anchors) // ANCHORS_AT_ONCE)):
        squared_chord = ((vectors[part, None] - vectors[None]) ** 2).sum(axis=-1)
        lag_km, distance = chord_km(squared_chord), 1 - unit[part] @ unit.T
        expected = np.interp(lag_km, table_km, gamma)
        z = (expected - distance) / np.interp(lag_km, table_km, std)
        false_strength = np.interp(lag_km, table_km, correlation) * expit(z)
        is_far, is_own_drive = lag_km > model.range_km, drives[rows[part], None] == drives[rows]
        for kind, strength, is_kind in zip(KINDS, (z, false_strength), (is_far, ~is_far), strict=True):
            strength = np.where(is_kind & (z > 0) & ~is_own_drive, strength, -np.inf)
            partner = strength.argmax(axis=1)
            at = np.arange(len(part)), partner
            facts = (values[at] for values in (lag_km, distance, expected, z, strength))
            found = zip(rows[part], rows[partner], *facts, strict=True)
            best[kind] += [Pair(kind, int(a), int(b), *map(float, values)) for a, b, *values in found if values[-1] > 0]
    blocks = spatial_blocks(unit_vectors(latitude, longitude))
    return [pair for kind in KINDS for pair in _apart(best[kind], drives, blocks)[:n_examples]]


def _apart(pairs: list[Pair], drives: np.ndarray, blocks: np.ndarray) -> list[Pair]:
    """Pairs by falling strength, each from drives and a pair of blocks that none before it had."""
    used, chosen = set(), []
    for pair in sorted(pairs, key=lambda pair: -pair.strength):
        marks = {("drive", drives[pair.a]), ("drive", drives[pair.b])}
        marks.add(("blocks", *sorted((blocks[pair.a], blocks[pair.b]))))
        if not marks & used:
            used |= marks
            chosen.append(pair)
    return chosen
