"""What is known of each anchor and candidate: their lag, their feature distance, and what the semivariogram expects."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.cli import InputError
from stages.geo import chord_km
from stages.variogram.models import Semivariogram

# A table row for each value of a float32's exponent and leading mantissa bits: 128 lags an octave, at most 0.4 % off.
# Reading the row off the lag's bits costs a shift, where a logarithm and an interpolation would cost ten times that.
_SHIFT = 16
_FIRST, _LAST = (int(np.float32(lag_km).view(np.int32)) >> _SHIFT for lag_km in (2.0**-10, 2.0**15))  # 1 m, 32768 km


@dataclass(frozen=True)
class Curves:
    """A fitted semivariogram, tabulated over lag for a training step; each table is (k,) float32."""

    range_km: float
    semivariance: Tensor
    std: Tensor
    correlation: Tensor

    def at(self, lag_km: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Semivariance, standard deviation and correlation, each like lag_km; below 1 m they are those of 1 m."""
        row = (lag_km.float().view(torch.int32) >> _SHIFT).sub_(_FIRST).clamp_(0, len(self.std) - 1).long()
        return self.semivariance.take(row), self.std.take(row), self.correlation.take(row)


def tabulate(model: Semivariogram, device: torch.device | str = "cpu") -> Curves:
    """Tables of a fitted semivariogram.

    Raises InputError if the model has no range: then no lag tells near from far.
    """
    if model.range_km is None:
        raise InputError(
            f"the fitted semivariogram '{model.name}' has no range, so no lag tells near from far; "
            "train a loss without one (infonce, distance_soft, hard_negative), or see reports/variogram/ "
            "and change variogram.models or features.model"
        )
    rows = np.arange(_FIRST, _LAST + 1, dtype=np.int32)
    lag_km = ((rows << _SHIFT) + (1 << (_SHIFT - 1))).view(np.float32).astype(np.float64)  # middle of each row's lags
    values = model.semivariance_at(lag_km), model.std_at(lag_km), model.correlation_at(lag_km)
    return Curves(model.range_km, *(torch.tensor(v, dtype=torch.float32, device=device) for v in values))


def pair_lag_km(anchor: Tensor, candidate: Tensor) -> Tensor:
    """Great-circle lags of anchors and candidates in km.

    anchor: (b, 3), candidate: (c, 3), float64 unit vectors.  Returns (b, c) float32.
    In float64 the product is good to 0.1 m; float32 would lose everything below 3 km.
    """
    two = anchor.new_full((1, 1), 2.0)
    squared_chord = torch.addmm(two, anchor, candidate.T, alpha=-2)
    return chord_km(squared_chord.float().clamp_(min=0))


def cosine_distance(anchor: Tensor, candidate: Tensor) -> Tensor:
    """Cosine distances (b, c) of unit features (b, d) and (c, d)."""
    return torch.addmm(anchor.new_ones((1, 1)), anchor, candidate.T, alpha=-1)
