"""Pairs of photos, binned by lag, on a processor: blocked matrix products, each tile binned while it is in cache."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
import torch

from stages.geo import EARTH_RADIUS_KM, squared_chord

TILE = 1024  # photos a side: 4 MB of products, which stay in the second-level cache
SEGMENT = 16  # photos tested together for lying in one lag bin
BEYOND = 16.0  # a squared chord that no two points have
N_MOMENTS = 6  # see sum_tiles
KEY_SHIFT = 48  # keeps a float64's sign, exponent and first 4 bits of its mantissa: 16 cells an octave


@dataclass(frozen=True)
class Part:
    """Some of the photos, those of a block together: unit vectors, unit features, drives and blocks."""

    vectors: np.ndarray  # (m, 3) float64
    features: np.ndarray  # (m, d) float32
    drives: np.ndarray  # (m,) int
    blocks: np.ndarray  # (m,) int, rising


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


def tiles_of(n_rows: int, n_cols: int, is_diagonal: bool, side: int) -> list[tuple[slice, slice]]:
    """Rows and columns of the tiles of two parts; of a part with itself those on and above the diagonal."""
    return [
        (slice(row, min(row + side, n_rows)), slice(col, min(col + side, n_cols)))
        for row in range(0, n_rows, side)
        for col in range(row if is_diagonal else 0, n_cols, side)
    ]


def n_pairs_in(rows: slice, cols: slice, is_diagonal: bool) -> int:
    """Pairs of a tile; of one on the diagonal of a part with itself those above it."""
    height, width = rows.stop - rows.start, cols.stop - cols.start
    return height * (height - 1) // 2 if is_diagonal and rows == cols else height * width


def sum_tiles(
    rows: Part, cols: Part, is_diagonal: bool, edges_km: np.ndarray, robust: bool, n_cores: int, advance: Callable
) -> np.ndarray:
    """Sums over the pairs of rows and cols, for each two of their blocks and each lag bin.

    is_diagonal: rows and cols are the same, and each pair counts once.  advance(n) is told after every n pairs.
    Returns (r, c, k, 6), r and c the numbers of different blocks: count, sum of half the angle (rad), of the cosine
    distance, of its square and, if robust, of sqrt(r) and r with r = |f_i - f_j|.

    The same bytes for every number of cores: tiles are summed apart and added in their order.
    """
    k, bins = len(edges_km) - 1, lag_table(edges_km)
    tensors = torch.from_numpy(rows.features), torch.from_numpy(cols.features)
    local = threading.local()

    def start_thread() -> None:
        torch.set_num_threads(1)  # of this thread: the tiles are what runs side by side
        local.products = torch.empty(TILE * TILE, dtype=torch.float32)

    def sum_tile(tile: tuple[slice, slice]) -> np.ndarray:
        shape = [part.stop - part.start for part in tile]
        products = local.products[: shape[0] * shape[1]].view(shape)
        torch.mm(tensors[0][tile[0]], tensors[1][tile[1]].T, out=products)
        row_run, row_ends, _ = _runs(rows.blocks[tile[0]])
        _, col_ends, _ = _runs(cols.blocks[tile[1]])
        sums = np.zeros((len(row_ends), len(col_ends), k + 2, N_MOMENTS))
        xyz = (np.ascontiguousarray(part.vectors[at].T) for part, at in zip((rows, cols), tile, strict=True))
        places = (*xyz, rows.drives[tile[0]], cols.drives[tile[1]], row_run, col_ends)
        _bin_tile(products.numpy(), *places, is_diagonal and tile[0] == tile[1], robust, bins, sums)
        return sums[..., 1 : k + 1, :]

    tiles = tiles_of(len(rows.blocks), len(cols.blocks), is_diagonal, TILE)
    row_blocks, col_blocks = np.unique(rows.blocks), np.unique(cols.blocks)
    total = np.zeros((len(row_blocks), len(col_blocks), k, N_MOMENTS))
    with ThreadPoolExecutor(n_cores, initializer=start_thread) as pool:
        for tile, sums in zip(tiles, pool.map(sum_tile, tiles), strict=True):
            of_rows = np.searchsorted(row_blocks, _runs(rows.blocks[tile[0]])[2])
            of_cols = np.searchsorted(col_blocks, _runs(cols.blocks[tile[1]])[2])
            total[np.ix_(of_rows, of_cols)] += sums
            advance(n_pairs_in(*tile, is_diagonal))
    return total
