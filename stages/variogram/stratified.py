"""A fixed number of pairs per lag bin from millions of photos.

Uniformly drawn pairs fill the long lags, and almost never lie below 25 km. For a bin that they leave short, photos are
put into a grid of cells as wide as the bin's largest lag, a pair is drawn uniformly from all pairs of neighbouring
cells, and kept if its lag falls into the bin. What is kept is uniform over the bin's pairs, so its plain mean estimates
the bin's semivariance.
"""

import numba
import numpy as np
from tqdm import tqdm

from stages.geo import chord_km
from stages.variogram.tiles import N_MOMENTS, bin_ends

UNIFORM_DRAWS = 10_000_000
DRAWS_AT_ONCE = 1_000_000
GRID_DRAWS = 250_000  # of which about a sixth is accepted where photos are spread evenly
MAX_ROUNDS = 40  # of GRID_DRAWS for one bin: one that accepts fewer than n_pairs in 10 million draws stays short
PAIRS_AT_ONCE = 16_384  # whose features are in memory


@numba.njit(cache=True)
def _squared_chords(vectors, i, j):
    """Squared chords of the pairs i, j (m,) of vectors (n, 3). Returns (m,)."""
    chords = np.empty(len(i))
    for pair in range(len(i)):
        total = 0.0
        for axis in range(3):
            total += (vectors[i[pair], axis] - vectors[j[pair], axis]) ** 2
        chords[pair] = total
    return chords


@numba.njit(cache=True)
def _first_at_least(values, value):
    """Index of the first of the rising values that is at least value."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True)
def _neighbour_counts(keys, side):
    """Number of photos in the 27 cells around each photo's cell.

    keys: (n,) cell of each photo, rising. Returns (n,) int64.

    Cells x, y, z-1 to z+1 are neighbours in keys too, so nine ranges of photos cover the 27 cells; their ends only move
    on.
    """
    counts = np.zeros(len(keys), np.int64)
    for dx in range(-1, 2):
        for dy in range(-1, 2):
            step, low, high = (dx * side + dy) * side, 0, 0
            for photo in range(len(keys)):
                while low < len(keys) and keys[low] < keys[photo] + step - 1:
                    low += 1
                while high < len(keys) and keys[high] <= keys[photo] + step + 1:
                    high += 1
                counts[photo] += high - low
    return counts


@numba.njit(cache=True)
def _unrank(ranks, keys, cumulative, side):
    """Pairs number ranks (m,) of all ordered pairs of photos in neighbouring cells: two (m,) int64 places in keys."""
    first, second = np.empty(len(ranks), np.int64), np.empty(len(ranks), np.int64)
    for m in range(len(ranks)):
        photo = _first_at_least(cumulative, ranks[m] + 1)
        left = ranks[m] - (cumulative[photo - 1] if photo else 0)
        first[m] = photo
        for column in range(9):
            step = ((column // 3 - 1) * side + column % 3 - 1) * side
            low = _first_at_least(keys, keys[photo] + step - 1)
            high = _first_at_least(keys, keys[photo] + step + 2)
            if left < high - low:
                second[m] = low + left
                break
            left -= high - low
    return first, second


def pairs_in_bin(vectors, drives, from_chord, to_chord, n_pairs, rng) -> tuple[np.ndarray, np.ndarray] | None:
    """Up to n_pairs pairs i, j with squared chords in [from_chord, to_chord), by grid and rejection; None if a grid is
    no help.
    """
    # A cell is a hair wider than the chord, and none is so narrow that its number would not fit.
    width = max(to_chord**0.5 * (1 + 1e-9), 1e-6)
    side = int(2 / width) + 4  # an empty cell around them all, so that a neighbour's number never wraps
    cells = ((vectors + 1) / width).astype(np.int64) + 1
    keys = (cells[:, 0] * side + cells[:, 1]) * side + cells[:, 2]
    order = np.argsort(keys)
    keys = keys[order]
    cumulative = np.cumsum(_neighbour_counts(keys, side))
    n_candidates = int(cumulative[-1])

    def keep(ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        i, j = (order[places] for places in _unrank(ranks, keys, cumulative, side))
        chords = _squared_chords(vectors, i, j)
        kept = (chords >= from_chord) & (chords < to_chord) & (drives[i] != drives[j])
        return i[kept], j[kept]

    if n_candidates <= DRAWS_AT_ONCE:  # few enough to look at each once
        i, j = keep(np.arange(n_candidates))
        i, j = i[i < j], j[i < j]
    elif n_candidates > len(vectors) ** 2 // 4:
        return None
    else:
        kept = []
        for _ in range(MAX_ROUNDS):
            # Sorted, so that memory is read forwards: five times as fast.
            kept.append(keep(np.sort(rng.integers(0, n_candidates, GRID_DRAWS))))
            if sum(len(i) for i, _ in kept) >= n_pairs:
                break
        i, j = (np.concatenate(part) for part in zip(*kept, strict=True))
    chosen = rng.choice(len(i), min(n_pairs, len(i)), replace=False, shuffle=False)
    return i[chosen], j[chosen]


def _uniform_pairs(vectors, drives, ends, n_pairs, rng) -> list[tuple[np.ndarray, np.ndarray]]:
    """The first n_pairs pairs i, j of each lag bin, as far as there are, among UNIFORM_DRAWS from all pairs."""
    found = [[(np.empty(0, np.int64),) * 2] for _ in ends[1:]]
    n_found = np.zeros(len(found), np.int64)
    for _ in range(UNIFORM_DRAWS // DRAWS_AT_ONCE if n_pairs else 0):
        i, j = rng.integers(0, len(vectors), (2, DRAWS_AT_ONCE))
        lag_bin = np.searchsorted(ends, _squared_chords(vectors, i, j), side="right") - 1
        lag_bin[drives[i] == drives[j]] = -1
        for lag in np.flatnonzero(n_found < n_pairs):
            here = np.flatnonzero(lag_bin == lag)[: n_pairs - n_found[lag]]
            found[lag].append((i[here], j[here]))
            n_found[lag] += len(here)
    return [tuple(np.concatenate(part) for part in zip(*pairs, strict=True)) for pairs in found]


def draw_pairs(
    vectors: np.ndarray, drives: np.ndarray, edges_km: np.ndarray, n_pairs: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Up to n_pairs different pairs per lag bin, uniform over the bin's pairs.

    vectors: (n, 3) unit vectors. drives: (n,) int, equal ones make no pair. Returns i, j (m,) int64 and their lag bin
    (m,), rising. A bin with few pairs may give a few less than there are.
    """
    rng = np.random.default_rng(seed)
    n, ends = len(vectors), bin_ends(edges_km)
    # So few photos that each pair can be looked at need no draws.
    found = _uniform_pairs(vectors, drives, ends, n_pairs if n**2 > DRAWS_AT_ONCE else 0, rng)
    short = [lag for lag, (i, _) in enumerate(found) if len(i) < n_pairs]
    for lag in tqdm(short, "short lags", unit="bin", mininterval=1, leave=False):
        found[lag] = pairs_in_bin(vectors, drives, ends[lag], ends[lag + 1], n_pairs, rng) or found[lag]
    i, j = (np.concatenate(part) for part in zip(*found, strict=True))
    lag_bin = np.repeat(np.arange(len(found)), [len(i) for i, _ in found])
    # A pair that was drawn twice is one pair; what is left is still uniform over the bin's pairs.
    once = np.sort(np.unique(np.minimum(i, j) * n + np.maximum(i, j), return_index=True)[1])
    return i[once], j[once], lag_bin[once]


def pair_distances(
    i: np.ndarray, j: np.ndarray, vectors: np.ndarray, unit_features: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lag (km) and cosine distance of the pairs i, j (m,) of rows of vectors (n, 3) and unit_features (n, d)."""
    distance = np.empty(len(i))
    for start in range(0, len(i), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        distance[part] = 1 - np.einsum("pd,pd->p", unit_features[i[part]], unit_features[j[part]])
    return chord_km(_squared_chords(vectors, i, j)), distance


def sum_pairs(i, j, lag_bin, vectors, unit_features, blocks, n_lags: int) -> np.ndarray:
    """Sums over the given pairs (m,), as of exhaustive.sum_all_pairs.

    unit_features: rows (r,) -> (r, d) float32 of unit length.
    """
    g = int(blocks.max(initial=0)) + 1
    total = np.zeros((g, g, n_lags, N_MOMENTS))
    order = np.argsort(i, kind="stable")  # the file is read forwards
    starts = range(0, len(i), PAIRS_AT_ONCE)
    for start in tqdm(starts, "features of pairs", unit="chunk", mininterval=1, leave=False):
        chosen = order[start : start + PAIRS_AT_ONCE]
        a, b = i[chosen], j[chosen]
        similarity = np.einsum("pd,pd->p", unit_features(a), unit_features(b), dtype=np.float64)
        distance = np.maximum(1 - similarity, 0)
        lag_km = chord_km(_squared_chords(vectors, a, b))
        norm = np.sqrt(2 * distance)
        moments = np.stack([np.ones_like(lag_km), lag_km, distance, distance**2, np.sqrt(norm), norm], axis=-1)
        low, high = np.minimum(blocks[a], blocks[b]), np.maximum(blocks[a], blocks[b])
        np.add.at(total, (low, high, lag_bin[chosen]), moments)
    return total
