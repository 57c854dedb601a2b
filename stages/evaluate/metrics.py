"""How good predictions are: accuracies, errors and GeoScore with bootstrap intervals, alone and against each other."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import polars as pl

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

_RESAMPLED_NUMBERS = 1 << 22  # of a block of bootstrap samples: some tables of 32 MB, however many photos there are


def geoscore(error_km: np.ndarray) -> np.ndarray:
    """Points of the game GeoGuessr, 5000 exp(-error / 1492.7 km). error_km: (...). Returns (...), in [0, 5000]."""
    return 5000 * np.exp(-error_km / GEOSCORE_LENGTH_KM)


def drives(sequence: pl.Series) -> np.ndarray:
    """Number (n,) int64 of each photo's drive, from 0; a photo without a sequence (n,) is a drive of its own."""
    rank = sequence.rank("dense").fill_null(0).to_numpy()  # from 1
    number = np.where(rank == 0, -1 - np.arange(len(rank)), rank)
    return np.unique(number, return_inverse=True)[1]


def bootstrap(
    error_km: np.ndarray,
    drive: np.ndarray,
    is_right: Mapping[str, np.ndarray] = MappingProxyType({}),
    *,
    n_bootstrap: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Metrics of n photos as they are, and of n_bootstrap resamples of their drives.

    error_km: (n,) float64, n >= 1.  drive: (n,) int, see drives; all numbers below the greatest are there too.
    is_right: per administrative level (n,), 1 or 0, NaN for a photo without a name there; a level without any is left
    out, because nothing is known about it.
    Returns (1 + n_bootstrap,) by key, the photos as they are first: accuracy_1km ... accuracy_2500km,
    accuracy_<level>, geoscore, mean_error_km, median_error_km.  Two calls with the same drives and seed resample alike.

    Drives are drawn, not photos: the frames of one drive are right or wrong together, and as if they were independent
    the intervals would be too narrow.  Source: Davison & Hinkley (1997), Bootstrap Methods and their Application, 3.8.
    """
    values = {key: error_km <= km for key, km in THRESHOLDS_KM.items()}
    values |= {f"accuracy_{level}": right for level, right in is_right.items() if not np.isnan(right).all()}
    values |= {"geoscore": geoscore(error_km), "mean_error_km": error_km}
    total, count = _sums(np.column_stack(list(values.values())).astype(np.float64), drive)
    order = np.argsort(error_km, kind="stable")

    def metrics(n_drawn: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # a level that no photo of a resample has a name on is 0 / 0
            means = (n_drawn @ total) / (n_drawn @ count)
        return np.column_stack([means, _weighted_median(error_km[order], n_drawn[:, drive[order]])])

    n_drives = len(total)
    block = max(1, _RESAMPLED_NUMBERS // len(error_km))
    rng = np.random.default_rng(seed)
    sizes = (min(block, n_bootstrap - start) for start in range(0, n_bootstrap, block))
    drawn = (_draw(n_drives, size, rng) for size in sizes)
    found = np.concatenate([metrics(np.ones((1, n_drives))), *map(metrics, drawn)])
    return dict(zip([*values, "median_error_km"], found.T, strict=True))


def _sums(values: np.ndarray, drive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of values (n, m) over each of c drives, and how many are not NaN. Returns two (c, m)."""
    is_known = ~np.isnan(values)
    columns = zip(np.where(is_known, values, 0).T, is_known.T, strict=True)
    totals, counts = zip(*((np.bincount(drive, v), np.bincount(drive, known)) for v, known in columns), strict=True)
    return np.column_stack(totals), np.column_stack(counts)


def _draw(n_drives: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """How often each drive is among n_drives that are drawn with replacement, size times. Returns (size, n_drives)."""
    drawn = rng.integers(n_drives, size=(size, n_drives)) + n_drives * np.arange(size)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * n_drives).reshape(size, n_drives).astype(np.float64)


def _weighted_median(ascending: np.ndarray, n_times: np.ndarray) -> np.ndarray:
    """Median of numbers (n,) that count n_times (b, n) each; the mean of the middle two of an even number. (b,)."""
    up_to = n_times.cumsum(axis=1)
    half = up_to[:, -1:] / 2
    lower, upper = (up_to < half).sum(axis=1), (up_to <= half).sum(axis=1)
    return (ascending[lower] + ascending[upper]) / 2


def interval(resampled: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of a metric, from its values (n_bootstrap,) in resamples; NaN says nothing."""
    low, high = np.nanquantile(resampled, CONFIDENCE)
    return float(low), float(high)


def summarize(
    error_km: np.ndarray,
    drive: np.ndarray,
    is_right: Mapping[str, np.ndarray] = MappingProxyType({}),
    *,
    n_bootstrap: int,
    seed: int,
) -> dict[str, float | int]:
    """Metrics of n predictions, flat, each with its 95 % interval as <key>_low and <key>_high, and count.

    Takes and names what bootstrap does.
    """
    flat = {}
    for key, found in bootstrap(error_km, drive, is_right, n_bootstrap=n_bootstrap, seed=seed).items():
        flat |= {key: float(found[0]), **dict(zip((f"{key}_low", f"{key}_high"), interval(found[1:]), strict=True))}
    return {**flat, "count": len(error_km)}


def paired_difference(
    error_km: np.ndarray, other_error_km: np.ndarray, drive: np.ndarray, *, n_bootstrap: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """What changes from the other predictions to these ones, with its 95 % bootstrap interval over the drives.

    error_km, other_error_km: (n,) of the same photos in the same order, n >= 1.  drive: (n,), theirs.
    Returns (difference, low, high) by key: the accuracies by distance, geoscore, mean_error_km and median_error_km.
    An interval without 0 tells the two apart. Both share each resample, so what is hard for both cancels.
    """
    these, others = (bootstrap(km, drive, n_bootstrap=n_bootstrap, seed=seed) for km in (error_km, other_error_km))
    changes = {key: these[key] - others[key] for key in these}
    return {key: (float(change[0]), *interval(change[1:])) for key, change in changes.items()}


def accuracy_curve(error_km: np.ndarray, distance_km: np.ndarray) -> np.ndarray:
    """Share of the errors within each distance. error_km: (n,), distance_km: (m,). Returns (m,), never falling."""
    return np.searchsorted(np.sort(error_km), distance_km, side="right") / len(error_km)
