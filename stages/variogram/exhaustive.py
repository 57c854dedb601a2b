"""All pairs of n photos, binned by lag, as pairs of parts of the photos: on a processor, a GPU, or a cluster."""

from collections.abc import Callable

import numpy as np
import torch
from tqdm import tqdm

from stages.cluster import Call, ThisMachine, Workers
from stages.geo import EARTH_RADIUS_KM
from stages.variogram.gpu import sum_tiles_on
from stages.variogram.tiles import N_MOMENTS, Part, sum_tiles

PART = 8192  # photos: the pairs of two parts take a core about a second, so a node that is lost loses little


def sum_all_pairs(
    vectors: np.ndarray,
    features: np.ndarray,
    drives: np.ndarray,
    blocks: np.ndarray,
    edges_km: np.ndarray,
    *,
    robust: bool = False,
    machine: Workers | None = None,
) -> np.ndarray:
    """Sums over all pairs of n photos, for each pair of spatial blocks and each lag bin.

    vectors: (n, 3) float64 unit vectors. features: (n, d) float32, of unit length. drives: (n,) int; two photos with
    the same number make no pair, so every photo needs one of its own unless frames of a drive are to be left out.
    blocks: (n,) int in [0, g), rising. edges_km: (k + 1,), rising. Returns (g, g, k, 6) float64, the first block the
    lower one: count, sum of lag (km), of cosine distance, of its square and, if robust, of sqrt(r) and r with r = |f_i
    - f_j|.  machine: where the parts are summed, here if None.

    On processors the same bytes come back for every number of cores and nodes: parts are added in their order. A GPU's
    sums differ by rounding.
    """
    machine = machine or ThisMachine()
    n, g, k = len(vectors), int(blocks.max(initial=0)) + 1, len(edges_km) - 1
    slices = [slice(start, start + PART) for start in range(0, n, PART)]
    parts = [machine.share(Part(vectors[s], features[s], drives[s], blocks[s])) for s in slices]
    of_part = [np.unique(blocks[s]) for s in slices]
    corners = [(row, col) for row in range(len(parts)) for col in range(row, len(parts))]
    calls = (Call((parts[row], parts[col], row == col, edges_km, robust)) for row, col in corners)
    total = np.zeros((g, g, k, N_MOMENTS))
    with tqdm(total=n * (n - 1) // 2, desc="pairs", unit=" pairs", unit_scale=True, mininterval=1, leave=False) as bar:
        for (row, col), sums in zip(corners, machine.map(sum_pairs_of, calls, bar.update, on_gpu=True), strict=True):
            total[np.ix_(of_part[row], of_part[col])] += sums
    total[..., 1] *= 2 * EARTH_RADIUS_KM  # half angles were summed
    return total


def sum_pairs_of(
    rows: Part, cols: Part, is_diagonal: bool, edges_km: np.ndarray, robust: bool, *, n_cores: int, advance: Callable
) -> np.ndarray:
    """Sums over the pairs of two parts, as of tiles.sum_tiles, on the GPU if there is one."""
    if torch.cuda.is_available():
        return sum_tiles_on(torch.device("cuda"), rows, cols, is_diagonal, edges_km, robust, advance)
    return sum_tiles(rows, cols, is_diagonal, edges_km, robust, n_cores, advance)
