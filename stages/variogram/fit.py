"""The fitted semivariogram: the best of several models, its errors, and what a reader of it has to know."""

import numpy as np

from stages.cli import InputError
from stages.variogram.choose import (
    MIN_LAGS,
    choose,
    corrected_aic,
    cross_validate,
    plausible,
    structure_p_value,
    why_nugget,
)
from stages.variogram.empirical import ESTIMATORS, EmpiricalSemivariogram, delete_block_sums, jackknife
from stages.variogram.least_squares import MIN_PAIRS, Fit, fit_model, weights
from stages.variogram.models import WITHOUT_RANGE, Semivariogram, check_models

AT_BOUND = 0.01  # relative distance to a bound that counts as having ended there


def _jackknife_fit(
    fit: Fit, empirical: EmpiricalSemivariogram, weight: np.ndarray
) -> tuple[dict[str, float | None], np.ndarray]:
    """Delete-block jackknife errors of a fit: of its parameters by name, of its curve at the lags (k,).

    None: not to be had.
    """
    estimator, lag_km = ESTIMATORS[empirical.estimator], empirical.lag_km[weight > 0]
    names = ("nugget", "partial_sill", "range_km", *fit.named_shape)
    parameters, curves = [], []
    for sums in delete_block_sums(empirical.sums):
        kept = (sums[:, 0] >= MIN_PAIRS) & (weight > 0)
        if kept.sum() < MIN_LAGS:
            continue
        kept_lag_km, semivariance = sums[kept, 1] / sums[kept, 0], estimator(sums[kept])
        refit = fit_model(fit.name, kept_lag_km, semivariance, weight[kept] / weight[kept].sum(), start=fit)
        parameters.append((refit.nugget, refit.partial_sill, refit.range_km or np.nan, *refit.shape))
        curves.append(refit.semivariance_at(lag_km))
    errors = jackknife(np.array(parameters).reshape(-1, len(names)))
    by_name = {name: float(error) if np.isfinite(error) else None for name, error in zip(names, errors, strict=True)}
    return by_name, jackknife(np.array(curves).reshape(-1, len(lag_km)))


def _warnings(fit: Fit, empirical: EmpiricalSemivariogram, weight: np.ndarray) -> list[str]:
    """What a reader of the fit has to know."""
    taken, found = weight > 0, []
    lag_km = empirical.lag_km[taken]
    n_few = int(((empirical.n_pairs > 0) & ~taken).sum())
    if n_few:
        found.append(f"{n_few} lag bins have fewer than {MIN_PAIRS} pairs and are left out of the fit")
    owned = taken & (empirical.largest_block_share > 0.5)
    if owned.any():
        ends = empirical.lag_from_km[owned].min(), empirical.lag_to_km[owned].max()
        found.append(
            f"one spatial block takes part in more than half of the pairs of {owned.sum()} lag bins between "
            f"{ends[0]:.1f} and {ends[1]:,.1f} km: there the semivariogram is that of one place"
        )
    if fit.name == "nugget":
        found.append(
            "no spatial structure: features at short lags are no more alike than at long ones, so there is no range"
        )
    elif fit.name == "linear":
        found.append(f"no plateau up to {lag_km[-1]:.4g} km, the largest lag fitted, so there is no range and no sill")
    elif fit.range_km > lag_km[-1]:
        found.append(
            f"no plateau up to {lag_km[-1]:.4g} km, the largest lag fitted: "
            f"the range of {fit.range_km:.4g} km is extrapolated"
        )
    elif fit.scale_km < lag_km[0] / 3 * 1.05:
        found.append(f"the range ended at its lower bound, below the smallest lag fitted ({lag_km[0]:.3g} km)")
    for name, value in fit.named_shape.items():
        low, high = fit.model.shape_bounds[name]
        if value < low * (1 + AT_BOUND) or value > high * (1 - AT_BOUND):
            found.append(f"{name} = {value:.4g} ended at a bound of [{low:g}, {high:g}]")
    return found


def _candidate(fit: Fit, mean_square: float, scores: np.ndarray, aicc: float) -> dict:
    """A fitted model as a row of the candidates' table; scores: (folds,) of the cross-validation."""
    return {
        "name": fit.name,
        "nugget": fit.nugget,
        "partial_sill": fit.partial_sill,
        "range_km": fit.range_km,
        "shape": fit.named_shape,
        "weighted_rmse": mean_square**0.5,
        "cross_validated_rmse": float(scores.mean() ** 0.5) if scores.size else None,
        "aicc": aicc if np.isfinite(aicc) else None,
    }


def fit(empirical: EmpiricalSemivariogram, names: list[str]) -> Semivariogram:
    """The best of the named models, as a Semivariogram; "nugget" or "linear" where the data show no range.

    Raises InputError for a model that is not known or not valid on the sphere, and for too few bins with enough pairs.
    """
    check_models(names)
    weight = weights(empirical)
    taken = weight > 0
    if taken.sum() < MIN_LAGS:
        raise InputError(
            f"{taken.sum()} lag bins have {MIN_PAIRS} pairs or more, and a fit needs {MIN_LAGS}; "
            "take more photos, from more than one place"
        )
    lag_km, semivariance, used = empirical.lag_km[taken], empirical.semivariance[taken], weight[taken]
    names = [*WITHOUT_RANGE, *names]
    fits = [fit_model(name, lag_km, semivariance, used) for name in names]
    mean_squares = [float(used @ (fit.semivariance_at(lag_km) - semivariance) ** 2) for fit in fits]
    n_parameters = [fit.model.n_parameters for fit in fits]
    aicc = [corrected_aic(error, len(lag_km), p) for error, p in zip(mean_squares, n_parameters, strict=True)]
    scores = cross_validate(names, empirical, weight)
    p_value = structure_p_value(empirical)
    allowed = plausible(fits, p_value, lag_km[-1])
    winner, reason = choose([names[m] for m in allowed], scores[allowed], [aicc[m] for m in allowed])
    chosen = allowed[winner]
    best, total = fits[chosen], float(used @ (semivariance - used @ semivariance) ** 2)
    errors, se_model = _jackknife_fit(best, empirical, weight)
    shape = {"reach_km": float(lag_km[-1])} if best.name == "linear" else best.named_shape
    return Semivariogram(
        name=best.name,
        nugget=best.nugget,
        partial_sill=best.partial_sill,
        range_km=best.range_km,
        shape=shape,
        standard_errors=errors,
        weighted_rmse=mean_squares[chosen] ** 0.5,
        r2=1 - mean_squares[chosen] / total if total > 0 else 0.0,
        lag_km=lag_km,
        semivariance=semivariance,
        std=empirical.std[taken],
        n_pairs=empirical.n_pairs[taken],
        se_block=empirical.se_block[taken],
        se_model=se_model,
        reason=why_nugget(p_value) if best.name == "nugget" else reason,
        warnings=tuple(_warnings(best, empirical, weight)),
        candidates=tuple(map(_candidate, fits, mean_squares, scores, aicc)),
    )
