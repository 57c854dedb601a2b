"""Spatial blocks of photos, and an order that keeps neighbours together."""

import numpy as np

N_BLOCKS = 40  # 20 to 60 serve; more are smaller than the range of the data, fewer make a noisy jackknife
SAMPLE = 20_000  # photos that place the blocks' centres
MORTON_BITS = 16  # per axis: cells of 200 m


def _nearest(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the nearest centre of each vector. (n, 3), (g, 3) unit vectors. Returns (n,) int64."""
    chunks = np.array_split(vectors, max(1, len(vectors) // 100_000))
    return np.concatenate([(chunk @ centres.T).argmax(axis=1) for chunk in chunks])


def spatial_blocks(vectors: np.ndarray, n_blocks: int = N_BLOCKS) -> np.ndarray:
    """Block of each photo, by k-means on the sphere.

    No random numbers: the first centres are as far apart as they can be.

    vectors: (n, 3) unit vectors. Returns (n,) int64 in [0, g), g <= n_blocks; fewer where there are fewer places.
    """
    sample = vectors[:: max(1, len(vectors) // SAMPLE)]
    centres = [sample[0]]
    closeness = sample @ centres[0]
    while len(centres) < n_blocks and closeness.min() < 1 - 1e-12:
        centres.append(sample[closeness.argmin()])
        closeness = np.maximum(closeness, sample @ centres[-1])
    centres = np.array(centres)
    for _ in range(10):
        labels = _nearest(sample, centres)
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, sample)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 1e-9, sums / np.maximum(length, 1e-9), centres)
    return np.unique(_nearest(vectors, centres), return_inverse=True)[1]


def along_curve(vectors: np.ndarray) -> np.ndarray:
    """Key (n,) int64 of each photo along a space-filling (Morton) curve: neighbours in key are mostly neighbours."""
    cells = ((vectors + 1) * (2 ** (MORTON_BITS - 1) - 1)).astype(np.int64)
    key = np.zeros(len(vectors), np.int64)
    for bit in range(MORTON_BITS):
        for axis in range(3):
            key |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return key
