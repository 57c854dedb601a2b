"""Fit semivariogram models by weighted least squares and choose among them by spatial-block cross-validation."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import ttest_1samp

from stages.cli import InputError
from stages.variogram.empirical import ESTIMATORS, MIN_LAG_KM, EmpiricalSemivariogram, delete_block_sums, jackknife
from stages.variogram.models import MODELS, WITHOUT_RANGE, Semivariogram, check_models, practical_x

MIN_PAIRS = 30  # of a lag bin that takes part
MIN_LAGS = 5
N_FOLDS = 5
# Floor of a bin's error as a share of the sill: measured best at 0.01 for a sill of 0.6 (range recovered within 7 %,
# nested ranges within 21 and 9 %); without a floor the few bins with tiny errors decide alone.
ERROR_FLOOR = 1 / 60
ERROR_BANDWIDTH_DECADES = 0.3  # of lag; on simulated worlds a little better than none, and than equal weights
SIGNIFICANT = 0.01  # p value below which features count as spatially structured
N_SCALES = 24  # starting scales, log-spaced over the lags
N_SHAPES = 5  # starting values of each shape parameter
AT_BOUND = 0.01  # relative distance to a bound that counts as having ended there


@dataclass(frozen=True)
class Fit:
    """A model's least-squares parameters; scale_km and shape are its function's."""

    name: str
    nugget: float
    partial_sill: float
    scale_km: float
    shape: tuple[float, ...]

    @property
    def model(self):
        """The entry of the table."""
        return MODELS.get(self.name) or WITHOUT_RANGE[self.name]

    @property
    def named_shape(self) -> dict[str, float]:
        """Shape parameters by name."""
        return dict(zip(self.model.shape_bounds, self.shape, strict=True))

    @property
    def range_km(self) -> float | None:
        """Practical range."""
        return self.scale_km * practical_x(self.model.share, self.named_shape) if self.model.has_range else None

    def semivariance_at(self, lag_km: np.ndarray) -> np.ndarray:
        """Semivariance at lag_km (k,)."""
        return self.nugget + self.partial_sill * self.model.share(lag_km / self.scale_km, *self.shape)


def weights(empirical: EmpiricalSemivariogram) -> np.ndarray:
    """Weight of each bin (k,), summing to 1: 1 / (error² + floor²); 0 below MIN_PAIRS.

    The error is the bins' block error, averaged over neighbours in log lag, as a jackknife over 40 blocks is itself
    uncertain: a lucky bin would decide alone. It also serves the bins that one block owns. Without any, all are equal.
    """
    takes_part = empirical.n_pairs >= MIN_PAIRS
    weight = np.zeros(len(takes_part))
    if not takes_part.any():
        return weight
    log_lag, se = np.log10(empirical.lag_km[takes_part]), empirical.se_block[takes_part]
    known = ~np.isnan(se)
    variance = np.zeros(len(se))
    if known.any():
        nearness = np.exp(-0.5 * ((log_lag[:, None] - log_lag[known]) / ERROR_BANDWIDTH_DECADES) ** 2)
        # + 1e-300: a bin far from all known errors still gets a number.
        variance = (nearness @ se[known] ** 2 + 1e-300) / (nearness.sum(axis=1) + 1e-300)
    floor = ERROR_FLOOR * max(empirical.semivariance[takes_part].max(), 1e-12)
    weight[takes_part] = 1 / (variance + floor**2)
    return weight / weight.sum()


def _linear_part(share: np.ndarray, semivariance: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Nugget and partial sill, both >= 0, that fit nugget + partial_sill * share best. All (k,); weights sum to 1."""
    mean_share, mean = weight @ share, weight @ semivariance
    variance = weight @ (share - mean_share) ** 2
    slope = weight @ ((share - mean_share) * (semivariance - mean)) / variance if variance > 1e-15 else 0.0
    if slope <= 0:
        return float(mean), 0.0
    if slope * mean_share > mean:
        return 0.0, float(weight @ (share * semivariance) / (weight @ share**2))
    return float(mean - slope * mean_share), float(slope)


def fit_model(
    name: str, lag_km: np.ndarray, semivariance: np.ndarray, weight: np.ndarray, start: Fit | None = None
) -> Fit:
    """Weighted least-squares fit of one model. lag_km, semivariance, weight: (k,), rising lags, weights that sum to 1.

    Nugget and partial sill follow from scale and shape by linear regression, so only those are searched: from start, or
    from the best of a grid. The scale stays between a third of the smallest and the largest lag.
    """
    model = MODELS.get(name) or WITHOUT_RANGE[name]
    if not model.has_range:
        return Fit(name, *_linear_part(model.share(lag_km / lag_km[-1]), semivariance, weight), lag_km[-1], ())

    def fit_at(point: np.ndarray) -> Fit:
        scale, shape = float(np.exp(point[0])), tuple(map(float, point[1:]))
        return Fit(name, *_linear_part(model.share(lag_km / scale, *shape), semivariance, weight), scale, shape)

    def residuals(point: np.ndarray) -> np.ndarray:
        return np.sqrt(weight) * (fit_at(point).semivariance_at(lag_km) - semivariance)

    low, high = np.array([(np.log(max(lag_km[0], MIN_LAG_KM) / 3), np.log(lag_km[-1])), *model.shape_bounds.values()]).T
    if start is None:
        spaces = [np.linspace(low[0], high[0], N_SCALES)]
        for a, b in model.shape_bounds.values():
            spaces.append(np.geomspace(a, b, N_SHAPES))
        first = min(product(*spaces), key=lambda point: float((residuals(np.array(point)) ** 2).sum()))
    else:
        first = (np.log(start.scale_km), *start.shape)
    # A start on a bound is moved inside by least_squares itself.
    best = least_squares(residuals, np.clip(first, low, high), bounds=(low, high), x_scale=high - low)
    return fit_at(best.x)


def _folds(empirical: EmpiricalSemivariogram) -> np.ndarray:
    """Fold of each block (g,), blocks dealt out by size so that folds hold about as many pairs."""
    counts = empirical.sums[..., 0].sum(axis=2)
    order = np.argsort(-(counts.sum(axis=0) + counts.sum(axis=1)), kind="stable")
    deal = np.concatenate([np.arange(N_FOLDS), np.arange(N_FOLDS)[::-1]])
    fold = np.empty(len(counts), np.int64)
    fold[order] = np.resize(deal, len(counts))
    return fold


def cross_validate(names: list[str], empirical: EmpiricalSemivariogram, weight: np.ndarray) -> np.ndarray:
    """Weighted mean squared error of each model on the semivariance of blocks that it was not fitted on.

    A fold's test pairs have both ends in its blocks and its training pairs neither. Returns (models, folds); no column
    for a fold whose training or test pairs fill too few bins.
    """
    fold, estimator, scores = _folds(empirical), ESTIMATORS[empirical.estimator], []
    for held_out in range(N_FOLDS):
        inside = fold == held_out
        test, train = (empirical.sums[np.ix_(part, part)].sum(axis=(0, 1)) for part in (inside, ~inside))
        in_test, in_train = ((sums[:, 0] >= MIN_PAIRS) & (weight > 0) for sums in (test, train))
        if min(in_test.sum(), in_train.sum()) < MIN_LAGS:
            continue
        lag_km = train[in_train, 1] / train[in_train, 0]
        train_weight = weight[in_train] / weight[in_train].sum()
        test_weight = weight[in_test] / weight[in_test].sum()
        fits = [fit_model(name, lag_km, estimator(train[in_train]), train_weight) for name in names]
        expected = np.array([fit.semivariance_at(test[in_test, 1] / test[in_test, 0]) for fit in fits])
        scores.append((expected - estimator(test[in_test])) ** 2 @ test_weight)
    return np.array(scores).T.reshape(len(names), -1)


def structure_p_value(empirical: EmpiricalSemivariogram) -> float:
    """Chance, without spatial structure, of blocks whose own pairs are so much more alike than pairs across blocks.

    From a one-sided t test over the spatial blocks. A block's value is the semivariance of its pairs with others minus
    the mean over lags of that within it. Without structure its expectation is 0 wherever the photos are, also where a
    few towns own most lags. 1 if fewer than two blocks have such pairs.
    """
    estimator, contrasts = ESTIMATORS[empirical.estimator], []
    for block in range(len(empirical.sums)):
        within = empirical.sums[block, block]
        across = empirical.sums[block].sum(axis=(0, 1)) + empirical.sums[:, block].sum(axis=(0, 1)) - 2 * within.sum(0)
        filled = within[:, 0] >= MIN_PAIRS
        if filled.any() and across[0] >= MIN_PAIRS:
            contrasts.append(estimator(across) - estimator(within[filled]).mean())
    return float(ttest_1samp(contrasts, 0, alternative="greater").pvalue) if len(contrasts) > 1 else 1.0


def plausible(fits: list[Fit], p_value: float, last_lag_km: float) -> list[int]:
    """Indices of the fits that may be chosen at all.

    "nugget" only if the structure is not significant; "linear" only if no model with a range finds it within half of
    the largest lag. Held-out blocks are too noisy to deny a structure that the whole data show.
    """
    has_plateau = any(fit.model.has_range and fit.range_km < last_lag_km / 2 for fit in fits)
    absent = {"nugget"} if p_value < SIGNIFICANT else set()
    absent |= {"linear"} if has_plateau else set()
    return [m for m, fit in enumerate(fits) if fit.name not in absent]


def choose(names: list[str], scores: np.ndarray, aicc: list[float]) -> tuple[int, str]:
    """Index of the simplest model whose score is within one standard error of the best one's, and the reason in words.

    scores: (models, folds), lower is better. Folds share their noise, so it is the standard error of the difference
    that counts. With fewer than two folds the lowest aicc decides.
    """
    n_parameters = [(MODELS.get(name) or WITHOUT_RANGE[name]).n_parameters for name in names]
    n_folds = scores.shape[1]
    if n_folds < 2:
        lowest = int(np.argmin(aicc))
        return (
            lowest,
            f"{names[lowest]} has the lowest AICc; the photos fill too few spatial blocks for cross-validation",
        )
    mean = scores.mean(axis=1)
    best = int(mean.argmin())
    difference = scores - scores[best]
    error = difference.std(axis=1, ddof=1) / np.sqrt(n_folds)
    near = [m for m in range(len(names)) if mean[m] - mean[best] <= error[m]]
    chosen = min(near, key=lambda m: (n_parameters[m], mean[m]))
    if chosen == best:
        return chosen, f"{names[best]} predicts held-out blocks best"
    return (
        chosen,
        f"{names[chosen]} is simpler than {names[best]} and predicts held-out blocks within one standard error of it",
    )


def _jackknife_fit(
    fit: Fit, empirical: EmpiricalSemivariogram, weight: np.ndarray
) -> tuple[dict[str, float | None], np.ndarray]:
    """Delete-block jackknife errors of a fit: of its parameters by name (None: not to be had), of its curve at the lags
    (k,).
    """
    without, estimator, lag_km = (
        delete_block_sums(empirical.sums),
        ESTIMATORS[empirical.estimator],
        empirical.lag_km[weight > 0],
    )
    names = ("nugget", "partial_sill", "range_km", *fit.named_shape)
    parameters, curves = [], []
    for sums in without:
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


def _aicc(weighted_mean_square: float, n_lags: int, n_parameters: int) -> float:
    """Akaike's criterion, corrected for few lags; infinite where there are too few.

    The error's variance is a parameter too.
    """
    p = n_parameters + 1
    if n_lags <= p + 1:
        return float("inf")
    return float(n_lags * np.log(max(weighted_mean_square, 1e-30)) + 2 * p + 2 * p * (p + 1) / (n_lags - p - 1))


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
    aicc = [_aicc(error, len(lag_km), fit.model.n_parameters) for error, fit in zip(mean_squares, fits, strict=True)]
    scores = cross_validate(names, empirical, weight)
    allowed = plausible(fits, structure_p_value(empirical), lag_km[-1])
    winner, reason = choose([names[m] for m in allowed], scores[allowed], [aicc[m] for m in allowed])
    chosen = allowed[winner]
    best, total = fits[chosen], float(used @ (semivariance - used @ semivariance) ** 2)
    candidates = [
        {
            "name": fit.name,
            "nugget": fit.nugget,
            "partial_sill": fit.partial_sill,
            "range_km": fit.range_km,
            "shape": fit.named_shape,
            "weighted_rmse": mean_squares[m] ** 0.5,
            "cross_validated_rmse": float(scores[m].mean() ** 0.5) if scores.size else None,
            "aicc": aicc[m] if np.isfinite(aicc[m]) else None,
        }
        for m, fit in enumerate(fits)
    ]
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
        reason=reason,
        warnings=tuple(_warnings(best, empirical, weight)),
        candidates=tuple(candidates),
    )
