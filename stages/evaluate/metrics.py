"""How good predictions are: accuracies, errors and GeoScore with bootstrap intervals, alone and against each other."""

from collections.abc import Callable, Mapping

import numpy as np
from scipy.stats import binom

# The field's thresholds: street, city, region, country, continent.
THRESHOLDS_KM = {
    "accuracy_1km": 1.0,
    "accuracy_25km": 25.0,
    "accuracy_200km": 200.0,
    "accuracy_750km": 750.0,
    "accuracy_2500km": 2500.0,
}
GEOSCORE_LENGTH_KM = 1492.7  # OSV5M's protocol
CONFIDENCE = (0.025, 0.975)  # quantiles of a 95 % interval

_RESAMPLED_NUMBERS = 1 << 22  # of a block of bootstrap samples: 32 MB of indices, however many photos there are


def geoscore(error_km: np.ndarray) -> np.ndarray:
    """Points of the game GeoGuessr, 5000 exp(-error / 1492.7 km). error_km: (...). Returns (...), in [0, 5000]."""
    return 5000 * np.exp(-error_km / GEOSCORE_LENGTH_KM)


# Statistics of the errors along the last axis, in the order of the summary.
STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "geoscore": lambda error_km: geoscore(error_km).mean(-1),
    "mean_error_km": lambda error_km: error_km.mean(-1),
    "median_error_km": lambda error_km: np.median(error_km, -1),
}


def proportion_interval(n_right: int, n: int) -> tuple[float, float]:
    """95 % bootstrap interval of the share n_right / n.

    The number of right ones in a resample of n is Binomial(n, n_right / n), so these are the quantiles that ever more
    bootstrap samples would come to. At a share of 0 or 1 the interval has no width, as every bootstrap's.
    """
    low, high = binom.ppf(CONFIDENCE, n, n_right / n) / n
    return float(low), float(high)


def resampled(statistics: Callable[[np.ndarray], np.ndarray], n: int, n_bootstrap: int, seed: int) -> np.ndarray:
    """A statistic of n_bootstrap resamples of n photos.

    statistics: maps (b, n) indices to (b, s) numbers.  Returns (n_bootstrap, s); memory does not grow with n_bootstrap.
    """
    rng = np.random.default_rng(seed)
    block = max(1, _RESAMPLED_NUMBERS // n)
    sizes = [min(block, n_bootstrap - start) for start in range(0, n_bootstrap, block)]
    return np.concatenate([statistics(rng.integers(n, size=(size, n))) for size in sizes])


def summarize(
    error_km: np.ndarray, is_right: Mapping[str, np.ndarray], *, n_bootstrap: int, seed: int
) -> dict[str, float | int]:
    """Metrics of n predictions, flat, each with its 95 % bootstrap interval as <key>_low and <key>_high.

    error_km: (n,) float64, n >= 1.  is_right: per administrative level a (m,) bool of the photos that have a truth
    there; a level with m = 0 is left out, because nothing is known about it.
    Returns accuracy_1km ... accuracy_2500km, accuracy_<level>, geoscore, mean_error_km, median_error_km and count.
    """
    hits = {key: error_km <= km for key, km in THRESHOLDS_KM.items()}
    hits |= {f"accuracy_{level}": right for level, right in is_right.items() if len(right)}
    intervals = {key: (hit.mean(), *proportion_interval(hit.sum(), len(hit))) for key, hit in hits.items()}

    def statistics(rows: np.ndarray) -> np.ndarray:
        sample = error_km[rows]
        return np.stack([statistic(sample) for statistic in STATISTICS.values()], axis=-1)

    quantiles = np.quantile(resampled(statistics, len(error_km), n_bootstrap, seed), CONFIDENCE, axis=0)
    for (key, statistic), (low, high) in zip(STATISTICS.items(), quantiles.T, strict=True):
        intervals[key] = (statistic(error_km), low, high)

    names = ("", "_low", "_high")
    flat = {
        key + name: float(value) for key, values in intervals.items() for name, value in zip(names, values, strict=True)
    }
    return {**flat, "count": len(error_km)}


def paired_difference(
    error_km: np.ndarray, other_error_km: np.ndarray, *, n_bootstrap: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """What changes from the other predictions to these ones, with its 95 % bootstrap interval over the photos.

    error_km, other_error_km: (n,) of the same photos in the same order, n >= 1.
    Returns (difference, low, high) by key: the accuracies by distance, geoscore, mean_error_km and median_error_km.
    An interval without 0 tells the two apart. Both share each resample, so what is hard for both cancels.
    """
    n = len(error_km)
    rng = np.random.default_rng(seed)
    differences = {}
    for key, km in THRESHOLDS_KM.items():
        change = (error_km <= km).astype(int) - (other_error_km <= km)
        # Of n resampled photos so many got worse, stayed and got better: no photo need be drawn.
        shares = np.bincount(change + 1, minlength=3) / n
        counts = rng.multinomial(n, shares, n_bootstrap)
        low, high = np.quantile((counts[:, 2] - counts[:, 0]) / n, CONFIDENCE)
        differences[key] = (float(change.mean()), float(low), float(high))

    def statistics(rows: np.ndarray) -> np.ndarray:
        sample, other = error_km[rows], other_error_km[rows]
        return np.stack([statistic(sample) - statistic(other) for statistic in STATISTICS.values()], axis=-1)

    quantiles = np.quantile(resampled(statistics, n, n_bootstrap, seed), CONFIDENCE, axis=0)
    for (key, statistic), (low, high) in zip(STATISTICS.items(), quantiles.T, strict=True):
        differences[key] = (float(statistic(error_km) - statistic(other_error_km)), float(low), float(high))
    return differences


def accuracy_curve(error_km: np.ndarray, distance_km: np.ndarray) -> np.ndarray:
    """Share of the errors within each distance. error_km: (n,), distance_km: (m,). Returns (m,), never falling."""
    return np.searchsorted(np.sort(error_km), distance_km, side="right") / len(error_km)
