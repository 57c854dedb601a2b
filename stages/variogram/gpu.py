"""All pairs of n photos, binned by lag, on a GPU: the sums of exhaustive.sum_all_pairs in plain tensor operations."""

import numpy as np
import torch
from tqdm import tqdm

from stages.geo import EARTH_RADIUS_KM
from stages.variogram.exhaustive import N_MOMENTS, bin_ends

TILE = 4096  # photos a side: 17 million pairs, some 2 GB of temporary tensors


def sum_all_pairs_on(
    device: torch.device,
    vectors: np.ndarray,
    features: np.ndarray,
    drives: np.ndarray,
    blocks: np.ndarray,
    edges_km: np.ndarray,
    *,
    robust: bool = False,
) -> np.ndarray:
    """Sums over all pairs of n photos, for each pair of spatial blocks and each lag bin; see sum_all_pairs.

    Counts are exact. On a GPU the sums are added in an order that changes from run to run, and differ by rounding.
    """
    n, g, k = len(vectors), int(blocks.max(initial=0)) + 1, len(edges_km) - 1
    place, drive, block = (torch.from_numpy(values).to(device) for values in (vectors, drives, blocks))
    feature, ends = torch.from_numpy(features).to(device), torch.from_numpy(bin_ends(edges_km)).to(device)
    total = torch.zeros(N_MOMENTS, g * g * k, dtype=torch.float64, device=device)
    corners = [(row, col) for row in range(0, n, TILE) for col in range(row, n, TILE)]
    for row, col in tqdm(corners, "pairs", unit="tile", mininterval=1, leave=False):
        rows, cols = slice(row, row + TILE), slice(col, col + TILE)
        # Differences, not 1 - dot: near 0 the latter has no digits left at 100 m.
        chord = sum((place[rows, axis, None] - place[cols, axis]) ** 2 for axis in range(3))
        lag_bin = torch.bucketize(chord, ends, right=True) - 1
        is_pair = (lag_bin >= 0) & (lag_bin < k) & (drive[rows, None] != drive[cols])
        if row == col:
            is_pair = is_pair.triu(1)
        key = ((block[rows, None] * g + block[cols]) * k + lag_bin)[is_pair]
        distance = (1 - feature[rows] @ feature[cols].T)[is_pair].clamp(min=0).double()
        moments = [torch.ones_like(distance), (chord[is_pair].sqrt() / 2).clamp(max=1).asin(), distance, distance**2]
        if robust:
            norm = (2 * distance).sqrt()
            moments += [norm.sqrt(), norm]
        for sums, moment in zip(total, moments, strict=False):
            sums += torch.bincount(key, moment, minlength=g * g * k)
    total[1] *= 2 * EARTH_RADIUS_KM  # half angles were summed
    return total.T.reshape(g, g, k, N_MOMENTS).cpu().numpy()
