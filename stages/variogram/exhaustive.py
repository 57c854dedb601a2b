"""All pairs of n photos, binned by lag: blocked matrix products, each tile binned while it is in cache."""

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from tqdm import tqdm

from stages.geo import EARTH_RADIUS_KM, squared_chord

TILE = 1024  # photos a side: 4 MB of products, which stay in the second-level cache
SEGMENT = 16  # photos tested together for lying in one lag bin
BEYOND = 16.0  # a squared chord that no two points have
N_MOMENTS = 6  # see sum_all_pairs
KEY_SHIFT = 48  # keeps a float64's sign, exponent and first 4 bits of its mantissa: 16 cells an octave


def bin_ends(edges_km: np.ndarray) -> np.ndarray:
    """Squared chords of the lag bins' edges (k + 1,).

    A last edge at the antipodes is open: rounding can push a chord past it.
    """
    ends = squared_chord(edges_km)
    if edges_km[-1] >= 0.999999 * np.pi * EARTH_RADIUS_KM:
        ends[-1] = BEYOND
    return ends


def lag_table(edges_km: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Upper ends of the slots as squared chords, and a table from a chord's top bits to the first slot that it can be
    in.

    edges_km: (k + 1,), rising, >= 0. Slot 0 is below the first edge, slots 1 to k are the lag bins, slot k + 1 is
    beyond the last edge. Returns ends (k + 2,), table (cells,), and the key of the table's first cell.
    """
    ends = np.append(bin_ends(edges_km), BEYOND)
    first_key = int(ends[ends > 0][:1].view(np.int64)[0] >> KEY_SHIFT)
    last_key = int(np.array([BEYOND]).view(np.int64)[0] >> KEY_SHIFT)
    cell_starts = (np.arange(first_key, last_key + 1) << KEY_SHIFT).view(np.float64)
    cell_starts[0] = 0.0  # the first cell also takes all that is smaller
    return ends, np.searchsorted(ends, cell_starts, side="right").astype(np.int64), first_key


@numba.njit(inline="always")
def _half_angle(chord):
    """Half the angle (rad) under a squared chord.

    Source: Cephes' asinf, relative error 3e-7; without a branch, to vectorise.
    """
    half = min(np.float32(0.5) * math.sqrt(np.float32(chord)), np.float32(1))
    is_far = half > np.float32(0.5)
    square = np.float32(0.5) * (np.float32(1) - half) if is_far else half * half
    root = math.sqrt(square) if is_far else half
    p = np.float32(4.2163199048e-2) * square + np.float32(2.4181311049e-2)
    p = p * square + np.float32(4.5470025998e-2)
    p = p * square + np.float32(7.4953002686e-2)
    p = p * square + np.float32(1.6666752422e-1)
    p = p * square * root + root
    return np.float32(1.5707963267948966) - np.float32(2) * p if is_far else p


@numba.njit(inline="always")
def _slot_of(chord, bins):
    """Slot of a squared chord: the table gives the first that it can be in, a short walk the right one."""
    ends, table, first_key = bins
    slot = table[max((np.float64(chord).view(np.int64) >> KEY_SHIFT) - first_key, 0)]
    while chord >= ends[slot]:
        slot += 1
    return slot


@numba.njit(nogil=True, cache=True, fastmath=True)
def _fill_row(products, x, y, z, cols, chords, lags, distances):
    """Squared chords, half angles and cosine distances from one photo to a tile's columns, into the last three (b,)."""
    # Loops from 0, so that the compiler sees indices that cannot be negative and vectorises.
    for j in range(len(chords)):
        # Differences, not 1 - dot: near 0 the latter has no digits left at 100 m.
        dx, dy, dz = cols[0, j] - x, cols[1, j] - y, cols[2, j] - z
        chords[j] = dx * dx + dy * dy + dz * dz
    for j in range(len(chords)):
        lags[j] = _half_angle(chords[j])
    for j in range(len(chords)):
        distances[j] = max(np.float32(1) - products[j], np.float32(0))


@numba.njit(nogil=True, cache=True, fastmath=True)
def _add_alike(start, end, lags, distances, robust, into, slot):
    """Add the pairs start to end, which all lie in slot, to into (slots, N_MOMENTS)."""
    lag, distance, square = 0.0, 0.0, 0.0
    for j in range(np.uint64(start), np.uint64(end)):
        d = np.float64(distances[j])
        lag += np.float64(lags[j])
        distance += d
        square += d * d
    into[slot, 0] += end - start
    into[slot, 1] += lag
    into[slot, 2] += distance
    into[slot, 3] += square
    if robust:
        root, norm = 0.0, 0.0
        for j in range(np.uint64(start), np.uint64(end)):
            r = math.sqrt(np.float32(2) * distances[j])
            root += np.float64(math.sqrt(r))
            norm += np.float64(r)
        into[slot, 4] += root
        into[slot, 5] += norm


@numba.njit(nogil=True, cache=True, fastmath=True)
def _bin_run(start, stop, drive, col_drive, chords, lags, distances, robust, bins, into):
    """Add pairs start to stop of one photo to into (slots, N_MOMENTS), but none with a photo of its own drive."""
    ends = bins[0]
    while start < stop:
        # Neighbours lie at much the same lag from a far photo: take the segments that lie in the first one's bin whole.
        slot, end = _slot_of(chords[start], bins), start
        nearest, farthest = ends[slot - 1] if slot else 0.0, ends[slot]
        while end < stop:
            segment_end, n_out = min(end + SEGMENT, stop), 0
            for j in range(np.uint64(end), np.uint64(segment_end)):
                n_out += (chords[j] < nearest) | (chords[j] >= farthest) | (drive == col_drive[j])
            if n_out:
                break
            end = segment_end
        if end > start:
            _add_alike(start, end, lags, distances, robust, into, slot)
            start = end
            continue
        end = min(start + SEGMENT, stop)
        for j in range(np.uint64(start), np.uint64(end)):
            if drive != col_drive[j]:
                slot, d = _slot_of(chords[j], bins), np.float64(distances[j])
                into[slot, 0] += 1
                into[slot, 1] += np.float64(lags[j])
                into[slot, 2] += d
                into[slot, 3] += d * d
                if robust:
                    r = math.sqrt(2 * d)
                    into[slot, 4] += math.sqrt(r)
                    into[slot, 5] += r
        start = end


@numba.njit(nogil=True, cache=True, fastmath=True)
def _bin_tile(products, rows, cols, row_drive, col_drive, row_run, col_ends, is_diagonal, robust, bins, sums):
    """Add a tile's pairs to sums (row runs, column runs, slots, N_MOMENTS).

    products: (a, b) float32 inner products. rows (3, a), cols (3, b): unit vectors, float64. row_run (a,): the run,
    i.e. the spatial block within the tile, of each row. col_ends: where each run of columns ends. On a diagonal tile
    only the pairs above the diagonal count. bins: as of lag_table.
    """
    b = products.shape[1]
    chords, lags, distances = np.empty(b), np.empty(b, np.float32), np.empty(b, np.float32)
    for i in range(products.shape[0]):
        _fill_row(products[i], rows[0, i], rows[1, i], rows[2, i], cols, chords, lags, distances)
        start = i + 1 if is_diagonal else 0
        for run in range(len(col_ends)):
            stop, into = col_ends[run], sums[row_run[i], run]
            _bin_run(start, stop, row_drive[i], col_drive, chords, lags, distances, robust, bins, into)
            start = max(start, stop)


def _runs(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of equal values in blocks (m,): run of each position (m,), end of each run (r,), value of each run (r,)."""
    is_new = np.append(True, blocks[1:] != blocks[:-1])
    starts = np.flatnonzero(is_new)
    return np.cumsum(is_new) - 1, np.append(starts[1:], len(blocks)), blocks[starts]


def sum_all_pairs(
    vectors: np.ndarray,
    features: np.ndarray,
    drives: np.ndarray,
    blocks: np.ndarray,
    edges_km: np.ndarray,
    *,
    robust: bool = False,
    n_threads: int | None = None,
) -> np.ndarray:
    """Sums over all pairs of n photos, for each pair of spatial blocks and each lag bin.

    vectors: (n, 3) float64 unit vectors. features: (n, d) float32, of unit length. drives: (n,) int; two photos with
    the same number make no pair, so every photo needs one of its own unless frames of a drive are to be left out.
    blocks: (n,) int in [0, g), rising. edges_km: (k + 1,), rising. Returns (g, g, k, 6) float64, the first block the
    lower one: count, sum of lag (km), of cosine distance, of its square and, if robust, of sqrt(r) and r with r = |f_i
    - f_j|.

    The same bytes come back for every number of threads: tiles are summed apart and added in their order.
    """
    n, g, k = len(vectors), int(blocks.max(initial=0)) + 1, len(edges_km) - 1
    bins = lag_table(edges_km)
    tensor = torch.from_numpy(features)
    local = threading.local()

    def start_thread() -> None:
        torch.set_num_threads(1)  # of this thread: the tiles are what runs side by side
        local.products = torch.empty(TILE * TILE, dtype=torch.float32)

    def sum_tile(corner: tuple[int, int]) -> np.ndarray:
        rows, cols = (slice(at, min(at + TILE, n)) for at in corner)
        shape = rows.stop - rows.start, cols.stop - cols.start
        products = local.products[: shape[0] * shape[1]].view(shape)
        torch.mm(tensor[rows], tensor[cols].T, out=products)
        row_run, row_ends, _ = _runs(blocks[rows])
        _, col_ends, _ = _runs(blocks[cols])
        sums = np.zeros((len(row_ends), len(col_ends), k + 2, N_MOMENTS))
        xyz = (np.ascontiguousarray(vectors[part].T) for part in (rows, cols))
        places = (*xyz, drives[rows], drives[cols], row_run, col_ends)
        _bin_tile(products.numpy(), *places, corner[0] == corner[1], robust, bins, sums)
        return sums[..., 1 : k + 1, :]

    corners = [(row, col) for row in range(0, n, TILE) for col in range(row, n, TILE)]
    total = np.zeros((g, g, k, N_MOMENTS))
    with ThreadPoolExecutor(n_threads or len(os.sched_getaffinity(0)), initializer=start_thread) as pool:
        tiles = tqdm(pool.map(sum_tile, corners), "pairs", len(corners), unit="tile", mininterval=1, leave=False)
        for (row, col), sums in zip(corners, tiles, strict=True):
            of_rows, of_cols = _runs(blocks[row : row + TILE])[2], _runs(blocks[col : col + TILE])[2]
            total[np.ix_(of_rows, of_cols)] += sums
    total[..., 1] *= 2 * EARTH_RADIUS_KM  # half angles were summed
    return total
