"""Differences between two ways of training, over photos and over seeds."""

import numpy as np

from stages.evaluate.metrics import CONFIDENCE, THRESHOLDS_KM

N_BOOTSTRAP = 2000


def difference(error_km: np.ndarray, base_error_km: np.ndarray, *, seed: int) -> dict[str, tuple[float, float, float]]:
    """Mean change of each accuracy from base to the other, with its 95 % bootstrap interval over seeds and photos.

    error_km, base_error_km: (s, n), a row a seed, the same n photos in the same order.
    Returns (difference, low, high) by key of THRESHOLDS_KM. Every resample draws s seeds and n photos anew, each shared
    by both, so the interval is that of another run on other photos of this world.
    """
    rng = np.random.default_rng(seed)
    n_seeds, n = error_km.shape
    seed_weights = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), N_BOOTSTRAP) / n_seeds
    photo_weights = rng.multinomial(n, np.full(n, 1 / n), N_BOOTSTRAP) / n
    found = {}
    for key, km in THRESHOLDS_KM.items():
        change = (error_km <= km).astype(float) - (base_error_km <= km)
        resampled = np.einsum("bs,sn,bn->b", seed_weights, change, photo_weights, optimize=True)
        found[key] = (float(change.mean()), *map(float, np.quantile(resampled, CONFIDENCE)))
    return found
