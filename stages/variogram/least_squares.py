"""Weighted least-squares fit of one semivariogram model to the lag bins."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import least_squares

from stages.variogram.empirical import MIN_LAG_KM, EmpiricalSemivariogram
from stages.variogram.models import MODELS, WITHOUT_RANGE, Model, practical_x

MIN_PAIRS = 30  # of a lag bin that takes part
# Floor of a bin's error as a share of the sill: measured best at 0.01 for a sill of 0.6 (range recovered within 7 %,
# nested ranges within 21 and 9 %); without a floor the few bins with tiny errors decide alone.
ERROR_FLOOR = 1 / 60
ERROR_BANDWIDTH_DECADES = 0.3  # of lag; on simulated worlds a little better than none, and than equal weights
N_SCALES = 24  # starting scales, log-spaced over the lags
N_SHAPES = 5  # starting values of each shape parameter


@dataclass(frozen=True)
class Fit:
    """A model's least-squares parameters; scale_km and shape are its function's."""

    name: str
    nugget: float
    partial_sill: float
    scale_km: float
    shape: tuple[float, ...]

    @property
    def model(self) -> Model:
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
