"""The empirical semivariogram of unit features on the sphere: lag bins, estimators, and two kinds of standard error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from stages.cli import InputError
from stages.cluster import Workers
from stages.geo import EARTH_RADIUS_KM, unit_vectors
from stages.variogram.blocks import along_curve, spatial_blocks
from stages.variogram.exhaustive import sum_all_pairs
from stages.variogram.stratified import draw_pairs, sum_pairs

EXHAUSTIVE_BELOW = 50_000  # photos; from there on a fixed number of pairs per lag is quicker
MIN_LAG_KM = 1e-3  # the grain of coordinates; photos at one place have lag 0, which has no logarithm
HALF_CIRCUMFERENCE_KM = np.pi * EARTH_RADIUS_KM


@dataclass(frozen=True)
class EmpiricalSemivariogram:
    """Semivariance per lag bin.

    Arrays (k,), NaN where a bin has no pairs; sums: (g, g, k, 6) over pairs of g spatial blocks.
    """

    lag_from_km: np.ndarray
    lag_to_km: np.ndarray
    lag_km: np.ndarray  # mean lag of the bin's pairs, at least MIN_LAG_KM
    semivariance: np.ndarray
    std: np.ndarray  # of the cosine distance within the bin
    n_pairs: np.ndarray
    se_sampling: np.ndarray  # against other pairs of these photos
    se_block: np.ndarray  # against other photos: delete-block jackknife; NaN where one block owns the bin
    largest_block_share: np.ndarray  # of the bin's pairs that one block takes part in
    estimator: str
    sums: np.ndarray


def lag_edges_km(first_lag_km: float, n_lags: int) -> np.ndarray:
    """Edges of n_lags lag bins: [0, first_lag_km), then geometric to half the Earth's circumference.

    Returns (n_lags + 1,) km.
    """
    edges = np.append(0.0, np.geomspace(first_lag_km, HALF_CIRCUMFERENCE_KM, n_lags))
    edges[-1] = HALF_CIRCUMFERENCE_KM
    return edges


def matheron(sums: np.ndarray) -> np.ndarray:
    """Mean cosine distance: half the mean squared difference of unit features.

    sums: (..., 6). Returns (...). Source: Matheron (1962).
    """
    return sums[..., 2] / sums[..., 0]


def _root_moments(dof: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of X^(1/4) and X^(1/2) for X chi-squared with dof degrees of freedom."""
    log_gamma = gammaln(dof / 2)
    return (
        np.exp(np.log(2) / 4 + gammaln(dof / 2 + 0.25) - log_gamma),
        np.exp(np.log(2) / 2 + gammaln(dof / 2 + 0.5) - log_gamma),
    )


# Mean of r over squared mean of sqrt(r) falls from 1.18 for one degree of freedom to 1 for many.
_DOF = np.geomspace(1, 1e5, 500)
_SPREAD = _root_moments(_DOF)[1] / _root_moments(_DOF)[0] ** 2


def cressie(sums: np.ndarray) -> np.ndarray:
    """Robust semivariance from the mean of sqrt(r), r = |f_i - f_j|, on which outliers weigh little.

    sums: (..., 6). Returns (...). Source: Cressie & Hawkins (1980), eq. 15, whose 0.457 + 0.494/N + 0.045/N² is the
    fourth power of that mean for one Gaussian variable; here for a Gaussian vector, whose r²/2γ is chi-squared with
    dof/dof, the degrees of freedom read off the spread of sqrt(r) itself. With one degree of freedom it is their
    estimator.
    """
    n, root, norm = sums[..., 0], sums[..., 4] / sums[..., 0], sums[..., 5] / sums[..., 0]
    # A bin whose features are all the same has r = 0, and no spread to speak of.
    dof = np.interp(-norm / np.maximum(root, 1e-30) ** 2, -_SPREAD, _DOF)
    return cressie_semivariance(root, n, dof)


def cressie_semivariance(mean_root: np.ndarray, n: np.ndarray, dof: np.ndarray) -> np.ndarray:
    """Semivariance from the mean of sqrt(r) of n pairs whose differences have dof degrees of freedom. All (...)."""
    mean, square = _root_moments(dof)
    variance = square - mean**2
    expected = mean**4 + 6 * mean**2 * variance / n + 3 * variance**2 / n**2
    return mean_root**4 * dof / (2 * expected)


ESTIMATORS = {"matheron": matheron, "cressie": cressie}


def delete_block_sums(sums: np.ndarray) -> np.ndarray:
    """Sums over the pairs that do not touch block b, for every b. sums: (g, g, k, m). Returns (g, k, m)."""
    g = np.arange(len(sums))
    touching = sums.sum(axis=0) + sums.sum(axis=1) - sums[g, g]
    return sums.sum(axis=(0, 1)) - touching


def jackknife(replicates: np.ndarray) -> np.ndarray:
    """Standard error from delete-one replicates (g, ...).

    Returns (...), NaN where a replicate is. Source: Tukey (1958).
    """
    g = len(replicates)
    if g < 2:
        return np.full(replicates.shape[1:], np.nan)
    return np.sqrt((g - 1) / g * ((replicates - replicates.mean(axis=0)) ** 2).sum(axis=0))


def summarise(sums: np.ndarray, edges_km: np.ndarray, estimator: str) -> EmpiricalSemivariogram:
    """The empirical semivariogram of sums (g, g, k, 6), as of exhaustive.sum_all_pairs."""
    total, without = sums.sum(axis=(0, 1)), delete_block_sums(sums)
    with np.errstate(invalid="ignore", divide="ignore"):  # empty bins become NaN
        n = total[:, 0]
        mean, mean_square = total[:, 2] / n, total[:, 3] / n
        std = np.sqrt(np.maximum(mean_square - mean**2, 0) * n / (n - 1))
        std[n == 1] = np.nan
        return EmpiricalSemivariogram(
            lag_from_km=edges_km[:-1],
            lag_to_km=edges_km[1:],
            lag_km=np.maximum(total[:, 1] / n, MIN_LAG_KM),
            semivariance=ESTIMATORS[estimator](total),
            std=std,
            n_pairs=n.astype(np.int64),
            se_sampling=std / np.sqrt(n),
            se_block=jackknife(ESTIMATORS[estimator](without)),
            largest_block_share=1 - without[:, :, 0].min(axis=0) / n,
            estimator=estimator,
            sums=sums,
        )


def unit_rows(features, rows: np.ndarray) -> np.ndarray:
    """Rows of features (n, d) as float32 of unit length, which float16 misses by up to 5e-4.

    Raises InputError naming rows that hold NaN or infinity, or have no direction.
    """
    unit = np.asarray(features[rows], np.float32)
    length = np.linalg.norm(unit, axis=1, keepdims=True)
    is_bad = ~(np.isfinite(length) & (length > 0))[:, 0]
    if is_bad.any():
        bad = np.unique(rows[is_bad])
        named = ", ".join(map(str, bad[:5])) + (", …" if len(bad) > 5 else "")
        raise InputError(
            f"the features of row {named} are NaN, infinite or all 0, and have no direction; "
            "make the features again: dvc repro --force features"
        )
    unit /= length
    return unit


def drive_numbers(sequence: Sequence[str | None] | None, n: int) -> np.ndarray:
    """Drive of each photo (n,) int64: one number a sequence, a number of its own for a photo without one."""
    own = np.arange(n)
    if sequence is None:
        return own
    first_of: dict[str, int] = {}
    return np.array([row if name is None else first_of.setdefault(name, row) for row, name in enumerate(sequence)])


def estimate(
    latitude: np.ndarray,
    longitude: np.ndarray,
    features,
    *,
    edges_km: np.ndarray,
    estimator: str = "matheron",
    pairs: str = "auto",
    n_pairs_per_lag: int = 20_000,
    sequence: Sequence[str | None] | None = None,
    photos: np.ndarray | None = None,
    machine: Workers | None = None,
    seed: int = 0,
) -> EmpiricalSemivariogram:
    """Semivariance of features against great-circle lag.

    latitude, longitude: (n,) degrees. features: (n, d), an array or anything that gives rows for an array of row
    numbers; rows are brought to unit length. edges_km: (k + 1,), rising. pairs: exhaustive, stratified, or auto.
    sequence: (n,), to leave out pairs of one sequence. photos: rows (m,) of those that take part, all if None.
    machine: where all pairs are summed, here if None; stratified ones are so few that they are summed here.
    Raises InputError for fewer than two photos and for features without a direction.
    """
    photos = np.arange(len(latitude)) if photos is None else photos
    n = len(photos)
    if n < 2:
        raise InputError(f"a semivariogram needs pairs, and there are {n} photos; take more archives or a larger world")
    vectors = unit_vectors(*(np.asarray(degrees, np.float64)[photos] for degrees in (latitude, longitude)))
    drives = drive_numbers(None if sequence is None else [sequence[photo] for photo in photos], n)
    blocks = spatial_blocks(vectors)
    if pairs == "exhaustive" or (pairs == "auto" and n < EXHAUSTIVE_BELOW):
        order = np.lexsort((along_curve(vectors), blocks))
        unit = np.concatenate([unit_rows(features, rows) for rows in np.array_split(photos[order], n // 10_000 + 1)])
        sums = sum_all_pairs(
            vectors[order],
            unit,
            drives[order],
            blocks[order],
            edges_km,
            robust=estimator == "cressie",
            machine=machine,
        )
    else:
        i, j, lag_bin = draw_pairs(vectors, drives, edges_km, n_pairs_per_lag, seed)
        sums = sum_pairs(
            i, j, lag_bin, vectors, lambda rows: unit_rows(features, photos[rows]), blocks, len(edges_km) - 1
        )
    return summarise(sums, edges_km, estimator)
