"""Pairs of photos, binned by lag, on a GPU: the sums of tiles.sum_tiles in plain tensor operations."""

from collections.abc import Callable

import numpy as np
import torch

from stages.variogram.tiles import N_MOMENTS, Part, bin_ends, n_pairs_in, tiles_of

TILE = 4096  # photos a side: 17 million pairs, some 2 GB of temporary tensors


def sum_tiles_on(
    device: torch.device,
    rows: Part,
    cols: Part,
    is_diagonal: bool,
    edges_km: np.ndarray,
    robust: bool,
    advance: Callable,
) -> np.ndarray:
    """Sums over the pairs of rows and cols, for each two of their blocks and each lag bin; see tiles.sum_tiles.

    Counts are exact. On a GPU the sums are added in an order that changes from run to run, and differ by rounding.
    """
    k, ends = len(edges_km) - 1, torch.from_numpy(bin_ends(edges_km)).to(device)
    (row_place, row_feature, row_drive, row_block, r), (col_place, col_feature, col_drive, col_block, c) = (
        _moved(part, device) for part in (rows, cols)
    )
    total = torch.zeros(N_MOMENTS, r * c * k, dtype=torch.float64, device=device)
    for at, to in tiles_of(len(rows.blocks), len(cols.blocks), is_diagonal, TILE):
        # Differences, not 1 - dot: near 0 the latter has no digits left at 100 m.
        chord = sum((row_place[at, axis, None] - col_place[to, axis]) ** 2 for axis in range(3))
        lag_bin = torch.bucketize(chord, ends, right=True) - 1
        is_pair = (lag_bin >= 0) & (lag_bin < k) & (row_drive[at, None] != col_drive[to])
        if is_diagonal and at == to:
            is_pair = is_pair.triu(1)
        key = ((row_block[at, None] * c + col_block[to]) * k + lag_bin)[is_pair]
        distance = (1 - row_feature[at] @ col_feature[to].T)[is_pair].clamp(min=0).double()
        moments = [torch.ones_like(distance), (chord[is_pair].sqrt() / 2).clamp(max=1).asin(), distance, distance**2]
        if robust:
            norm = (2 * distance).sqrt()
            moments += [norm.sqrt(), norm]
        for sums, moment in zip(total, moments, strict=False):
            sums += torch.bincount(key, moment, minlength=r * c * k)
        advance(n_pairs_in(at, to, is_diagonal))
    return total.T.reshape(r, c, k, N_MOMENTS).cpu().numpy()


def _moved(part: Part, device: torch.device) -> tuple:
    """A part's columns on a device, its blocks numbered from 0, and how many blocks it has."""
    names, block = np.unique(part.blocks, return_inverse=True)
    columns = part.vectors, part.features, part.drives, block
    return *(torch.from_numpy(values).to(device) for values in columns), len(names)
