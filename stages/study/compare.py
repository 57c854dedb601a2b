"""Differences between two ways of training, over photos and over seeds."""

import numpy as np

from stages.evaluate.metrics import THRESHOLDS_KM, bootstrap, interval

N_BOOTSTRAP = 2000


def difference(
    error_km: np.ndarray, base_error_km: np.ndarray, drive: np.ndarray, *, seed: int
) -> dict[str, tuple[float, float, float]]:
    """Mean change of each accuracy from base to the other, with its 95 % bootstrap interval over seeds and drives.

    error_km, base_error_km: (s, n), a row a seed, the same n photos in the same order.  drive: (n,) int, theirs.
    Returns (difference, low, high) by key of THRESHOLDS_KM. Every resample draws the s seeds and the drives anew, each
    shared by both, so the interval is that of another run on other photos of this world.
    """
    n_seeds = len(error_km)
    n_drawn = np.random.default_rng(seed).multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), N_BOOTSTRAP)
    these, others = (
        [bootstrap(of_seed, drive, n_bootstrap=N_BOOTSTRAP, seed=seed) for of_seed in errors]
        for errors in (error_km, base_error_km)
    )
    found = {}
    for key in THRESHOLDS_KM:
        change = np.stack([its[key] - base[key] for its, base in zip(these, others, strict=True)])
        resampled = np.einsum("bs,sb->b", n_drawn / n_seeds, change[:, 1:])
        found[key] = (float(change[:, 0].mean()), *interval(resampled))
    return found
