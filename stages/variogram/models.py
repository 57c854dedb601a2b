"""Semivariogram models that are valid with great-circle lags: one function a model, and the fitted semivariogram.

Each function gives the share of the partial sill that is reached at x lags, in units of the model's scale. Only models
whose covariance is positive definite on the sphere stand here: Huang, Zhang & Robeson (2011), "On the validity of
commonly used covariance and variogram functions on the sphere"; Gneiting (2013), "Strictly and non-strictly positive
definite functions on spheres", table 1.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import gamma, kv

from stages.cli import InputError
from stages.shards import write_json

PRACTICAL_SHARE = 0.95  # of the partial sill, reached at the practical range
MIN_STD = 1e-6  # the loss divides by it
STD_BANDWIDTH_DECADES = 0.15  # of lag, of the smoothing of the within-lag standard deviation


def nugget(x: np.ndarray) -> np.ndarray:
    """No spatial structure: 0 at every lag."""
    return np.zeros_like(x)


def linear(x: np.ndarray) -> np.ndarray:
    """No plateau: x. Lévy's Brownian motion on the sphere has this semivariogram, so it is valid."""
    return x


def exponential(x: np.ndarray) -> np.ndarray:
    """1 - exp(-x)."""
    return -np.expm1(-x)


def spherical(x: np.ndarray) -> np.ndarray:
    """1.5 x - 0.5 x³ up to x = 1, then 1."""
    x = np.minimum(x, 1)
    return 1.5 * x - 0.5 * x**3


def stable(x: np.ndarray, alpha: float) -> np.ndarray:
    """1 - exp(-x^α); valid on the sphere for 0 < α <= 1. α = 1 is the exponential."""
    return -np.expm1(-(x**alpha))


def matern(x: np.ndarray, nu: float) -> np.ndarray:
    """1 - 2^(1-ν) / Γ(ν) · x^ν K_ν(x); valid on the sphere for 0 < ν <= 1/2. ν = 1/2 is the exponential."""
    with np.errstate(invalid="ignore"):  # 0 · inf at x = 0
        correlation = 2 ** (1 - nu) / gamma(nu) * x**nu * kv(nu, x)
    return np.where(x > 0, 1 - correlation, 0.0)


def nested(x: np.ndarray, short_share: float, short_ratio: float) -> np.ndarray:
    """Sum of two exponentials: short_share of the partial sill has short_ratio of the scale, the rest the whole."""
    return short_share * exponential(x / short_ratio) + (1 - short_share) * exponential(x)


@dataclass(frozen=True)
class Model:
    """A model's function and the bounds of its shape parameters, which are its function's further arguments."""

    share: Callable[..., np.ndarray]
    shape_bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    has_range: bool = True

    @property
    def n_parameters(self) -> int:
        """Nugget, partial sill and scale as far as there are any, and the shape parameters."""
        return 3 + len(self.shape_bounds) if self.has_range else 2 - (self.share is nugget)


MODELS = {
    "exponential": Model(exponential),
    "spherical": Model(spherical),
    "stable": Model(stable, {"alpha": (0.1, 1.0)}),
    "matern": Model(matern, {"nu": (0.05, 0.5)}),
    "nested": Model(nested, {"short_share": (0.02, 0.98), "short_ratio": (1e-4, 0.5)}),
}
# What remains where the data show no range; always among the candidates.
WITHOUT_RANGE = {"nugget": Model(nugget, has_range=False), "linear": Model(linear, has_range=False)}

NOT_ON_SPHERE = {
    "gaussian": "its covariance is not positive definite for great-circle lags at any range",
    "cubic": "its covariance is not positive definite for great-circle lags at every range",
    "hole": "a periodic covariance is not positive definite for great-circle lags",
    "circular": "it is valid in the plane only, not with great-circle lags",
    "power": "with great-circle lags it is valid up to exponent 1 only, and it has no sill",
}


def check_models(names: list[str]) -> None:
    """Raise InputError for a name that is not in MODELS, with the reason where it is not valid on a sphere."""
    for name in names:
        if name in NOT_ON_SPHERE:
            raise InputError(
                f"model '{name}' is refused: {NOT_ON_SPHERE[name]}; choose from: {', '.join(sorted(MODELS))}"
            )
        if name not in MODELS:
            raise InputError(f"model '{name}' is not known; choose from: {', '.join(sorted(MODELS))}")


def practical_x(share: Callable[..., np.ndarray], shape: dict[str, float]) -> float:
    """Smallest x at which a model with a plateau reaches 95 % of its partial sill."""
    # The slowest member, stable with alpha = 0.1, gets there at x = 6e4.
    return float(
        brentq(lambda x: float(share(np.float64(x), **shape)) - PRACTICAL_SHARE, 1e-9, 1e6, xtol=1e-12, rtol=1e-14)
    )


@dataclass(frozen=True)
class Semivariogram:
    """A fitted semivariogram and the lag bins that it was fitted on.

    range_km: the practical range, the smallest lag with gamma >= nugget + 0.95 partial sill; None where the data show
    no range: name "nugget" (no spatial structure, partial_sill 0) or "linear" (no plateau: the partial sill is reached
    at the lag shape["reach_km"], the largest one fitted, and the line goes on).
    """

    name: str
    nugget: float
    partial_sill: float
    range_km: float | None
    shape: dict[str, float]
    standard_errors: dict[str, float | None]
    weighted_rmse: float
    r2: float
    lag_km: np.ndarray
    semivariance: np.ndarray
    std: np.ndarray
    n_pairs: np.ndarray
    se_block: np.ndarray
    se_model: np.ndarray  # of the fitted curve at lag_km
    reason: str = ""
    warnings: tuple[str, ...] = ()
    candidates: tuple[dict, ...] = ()

    @property
    def sill(self) -> float:
        """Nugget + partial sill."""
        return self.nugget + self.partial_sill

    def share_at(self, lag_km: np.ndarray) -> np.ndarray:
        """Share of the partial sill that is reached at lag_km (...), float64. Returns (...)."""
        lag_km = np.asarray(lag_km, np.float64)
        if self.name == "nugget":
            return nugget(lag_km)
        if self.name == "linear":
            return linear(lag_km / self.shape["reach_km"])
        share = MODELS[self.name].share
        return share(lag_km * (practical_x(share, self.shape) / self.range_km), **self.shape)

    def semivariance_at(self, lag_km: np.ndarray) -> np.ndarray:
        """Expected cosine distance of two different photos lag_km (...) apart; the nugget at lag 0. Returns (...)."""
        return self.nugget + self.partial_sill * self.share_at(lag_km)

    def correlation_at(self, lag_km: np.ndarray) -> np.ndarray:
        """Spatial correlation c(h) = 1 - (gamma(h) - nugget) / partial_sill, in [0, 1]; 0 without structure.

        lag_km: (...).
        """
        if self.partial_sill == 0:
            return np.zeros_like(lag_km, np.float64)
        return np.clip(1 - self.share_at(lag_km), 0, 1)

    def std_at(self, lag_km: np.ndarray) -> np.ndarray:
        """Standard deviation s(h) of the cosine distance of photos lag_km (...) apart. Returns (...), positive.

        Mean of the bins' standard deviations, weighted by a Gaussian of their distance in log lag; constant beyond the
        ends.
        """
        log_lag = np.log10(self.lag_km)
        # 1e-9: lag 0 has no logarithm.
        at = np.clip(np.log10(np.maximum(lag_km, 1e-9)), log_lag[0], log_lag[-1])
        exponent = -0.5 * ((at[..., None] - log_lag) / STD_BANDWIDTH_DECADES) ** 2
        weight = np.exp(exponent - exponent.max(axis=-1, keepdims=True))
        return np.maximum((weight * self.std).sum(axis=-1) / weight.sum(axis=-1), MIN_STD)

    def structures(self) -> list[dict[str, float]]:
        """Partial sill and practical range of each structure: two if nested, one else, none without a range."""
        if self.range_km is None:
            return []
        if self.name != "nested":
            return [{"partial_sill": self.partial_sill, "range_km": self.range_km}]
        share, ratio = self.shape["short_share"], self.shape["short_ratio"]
        long_km = self.range_km * practical_x(exponential, {}) / practical_x(nested, self.shape)
        return [
            {"partial_sill": share * self.partial_sill, "range_km": ratio * long_km},
            {"partial_sill": (1 - share) * self.partial_sill, "range_km": long_km},
        ]


def write_model(model: Semivariogram, path: Path) -> None:
    """Write model as JSON, its sill and structures too."""
    values = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(model).items()}
    for key in ("se_block", "se_model"):  # JSON has no NaN: a bin that one block owns has no block error
        values[key] = [None if np.isnan(se) else se for se in values[key]]
    write_json(path, {"name": model.name, "sill": model.sill, "structures": model.structures(), **values})


def read_model(path: Path) -> Semivariogram:
    """The model that write_model wrote. Raises InputError if there is none."""
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is not there; run the variogram stage first: dvc repro variogram") from None
    for key in ("lag_km", "semivariance", "std", "n_pairs", "se_block", "se_model"):
        values[key] = np.array(values[key], np.int64 if key == "n_pairs" else np.float64)
    for key in ("warnings", "candidates"):
        values[key] = tuple(values[key])
    return Semivariogram(**{key.name: values[key.name] for key in fields(Semivariogram)})
