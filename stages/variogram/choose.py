"""Choose among fitted semivariogram models by spatial-block cross-validation."""

import numpy as np
from scipy.stats import ttest_1samp

from stages.variogram.empirical import ESTIMATORS, EmpiricalSemivariogram, matheron
from stages.variogram.least_squares import MIN_PAIRS, Fit, fit_model
from stages.variogram.models import MODELS, WITHOUT_RANGE

MIN_LAGS = 5  # filled bins that a fit needs
N_FOLDS = 5
SIGNIFICANT = 0.05  # p value below which features count as spatially structured


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

    From a one-sided t test over the spatial blocks. A block's value is the mean cosine distance of its pairs with
    others minus the mean over lags of that within it. Without structure its expectation is 0 wherever the photos are,
    also where a few towns own most lags, and for every number of pairs, so none are left out: on 120 photos with a
    third of the sill structured this finds all of 40 worlds, and with bins of 30 pairs or more only 2. 1 if fewer than
    two blocks have pairs, or all are alike.
    """
    contrasts = []
    for block in range(len(empirical.sums)):
        within = empirical.sums[block, block]
        across = empirical.sums[block].sum(axis=(0, 1)) + empirical.sums[:, block].sum(axis=(0, 1)) - 2 * within.sum(0)
        filled = within[:, 0] > 0
        if filled.any() and across[0] > 0:
            # Plain means, which a robust estimator of few pairs is not centred on.
            contrasts.append(matheron(across) - matheron(within[filled]).mean())
    if len(contrasts) < 2 or np.ptp(contrasts) == 0:
        return 1.0
    return float(ttest_1samp(contrasts, 0, alternative="greater").pvalue)


def plausible(fits: list[Fit], p_value: float, last_lag_km: float) -> list[int]:
    """Indices of the fits that may be chosen at all.

    Only "nugget" if the structure is not significant or no fit rises, and never otherwise: held-out blocks are too
    noisy for that question, and find structure in 10 of 60 worlds of 300 photos that have none. "linear" only if no
    model with a range finds it within half of the largest lag.
    """
    rising = [m for m, fit in enumerate(fits) if fit.partial_sill > 0]
    if p_value >= SIGNIFICANT or not rising:
        return [m for m, fit in enumerate(fits) if fit.name == "nugget"]
    has_plateau = any(fits[m].model.has_range and fits[m].range_km < last_lag_km / 2 for m in rising)
    return [m for m in rising if not (has_plateau and fits[m].name == "linear")]


def why_nugget(p_value: float) -> str:
    """Why the only plausible fit is "nugget", in words."""
    if p_value < SIGNIFICANT:
        return "no model rises with lag"
    return f"photos of one spatial block are not significantly more alike than others (p = {p_value:.2g})"


def choose(names: list[str], scores: np.ndarray, aicc: list[float]) -> tuple[int, str]:
    """Index of the simplest model whose score is within one standard error of the best one's, and the reason in words.

    scores: (models, folds), lower is better. Folds share their noise, so it is the standard error of the difference
    that counts. With fewer than two folds the lowest aicc decides.
    """
    n_parameters = [(MODELS.get(name) or WITHOUT_RANGE[name]).n_parameters for name in names]
    n_folds = scores.shape[1]
    if n_folds < 2:
        lowest = int(np.argmin(aicc))
        return lowest, f"{names[lowest]} has the lowest AICc; too few spatial blocks are filled for cross-validation"
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


def corrected_aic(weighted_mean_square: float, n_lags: int, n_parameters: int) -> float:
    """Akaike's criterion, corrected for few lags; infinite where there are too few.

    The error's variance is a parameter too.
    """
    p = n_parameters + 1
    if n_lags <= p + 1:
        return float("inf")
    return float(n_lags * np.log(max(weighted_mean_square, 1e-30)) + 2 * p + 2 * p * (p + 1) / (n_lags - p - 1))
