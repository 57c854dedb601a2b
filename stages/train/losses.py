"""The contrastive losses, one table. Logits are (b, c): b photos against c >= b places, the photo's own at j = i.

Each loss takes (logits, lag_km, image_distance, curves) and its own params, and returns (b,), one value a photo:

    logits          (b, c)  scale times cosine of photo i and place j
    lag_km          (b, c)  h_ij, great circle
    image_distance  (b, c)  d_ij, cosine distance of the frozen features of the photos at i and j
    curves                  the fitted semivariogram, gamma(h), s(h), c(h) and the range rho

A loss gets None for what its entry in the table says that it does not use. At strength zero each equals infonce.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from stages.train.pairs import Curves


def infonce(logits: Tensor, lag_km: Tensor | None, image_distance: Tensor | None, curves: Curves | None) -> Tensor:
    """GeoCLIP's loss: -log softmax_j l_ij at j = i.

    Source: van den Oord et al. (2018), arXiv 1807.03748, eq. 4; GeoCLIP, arXiv 2309.16020, eq. 3.
    """
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction="none")


def semivariogram_log_weights(
    lag_km: Tensor, image_distance: Tensor, curves: Curves, *, beta_hard: float, beta_false: float
) -> Tensor:
    """Logarithms of the weights w_ij (b, c), by the standardised residual z = (gamma(h) - d) / s(h).

        + beta_hard  max(z, 0)             beyond the range: look-alikes far away, hard negatives
        - beta_false c(h) sigmoid(z)       within the range: alike and near, false negatives

    and 0 at j = i, the positive. z is positive for photos more alike than space explains.
    """
    semivariance, std, correlation = curves.at(lag_km)
    z = (semivariance - image_distance) / std
    is_far = lag_km > curves.range_km
    log_weight = torch.where(is_far, beta_hard * z.clamp(min=0), -beta_false * correlation * z.sigmoid())
    return log_weight.fill_diagonal_(0)


def semivariogram(
    logits: Tensor,
    lag_km: Tensor,
    image_distance: Tensor,
    curves: Curves,
    *,
    beta_hard: float,
    beta_false: float,
    soft_share: float,
    soft_length_km: float,
) -> Tensor:
    """-sum_j t_ij log ( w_ij e^l_ij / sum_k w_ik e^l_ik ), with the weights of semivariogram_log_weights.

    t are the targets of distance_soft: a share `soft_share` of each is spread over the neighbours, which are not only
    no negatives but nearly right answers; at 0 only j = i counts.
    log w is added: multiplied, a weight above 1 would push a negative logit down instead of up.
    After Chen et al. (2025), arXiv 2509.21573; the targets are ours to add.
    """
    log_weight = semivariogram_log_weights(lag_km, image_distance, curves, beta_hard=beta_hard, beta_false=beta_false)
    return distance_soft(logits + log_weight, lag_km, None, None, strength=soft_share, length_km=soft_length_km)


def residual_scaling(
    logits: Tensor, lag_km: Tensor, image_distance: Tensor, curves: Curves, *, strength: float
) -> Tensor:
    """InfoNCE with the negatives' logits within the range times exp(strength max(0, d - gamma(h))).

    Source: the public prototype of Chen et al. (2025), at strength 1. A negative logit so scaled falls where a positive
    one rises; it is here to compare with.
    """
    semivariance, _, _ = curves.at(lag_km)
    exponent = strength * (image_distance - semivariance).clamp(min=0) * (lag_km <= curves.range_km)
    return infonce(logits * exponent.fill_diagonal_(0).exp(), None, None, None)


def distance_soft(
    logits: Tensor, lag_km: Tensor, image_distance: None, curves: None, *, strength: float, length_km: float
) -> Tensor:
    """Cross entropy with soft targets: a share `strength` of each target is spread as exp(-h / length_km).

        t_ij = (1 - strength) [i = j] + strength exp(-h_ij / length_km) / sum_k exp(-h_ik / length_km)

    After Han et al. (2026), arXiv 2604.04357 (their soft labels; neither their prompts nor their other terms).
    """
    log_spread = (-lag_km / length_km).to(logits.dtype).fill_diagonal_(0)  # the anchor's own place is at lag 0
    soft = -(log_spread.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)
    return (1 - strength) * infonce(logits, None, None, None) + strength * soft


def hard_negative(logits: Tensor, lag_km: None, image_distance: None, curves: None, *, beta: float) -> Tensor:
    """InfoNCE with negatives weighted by their own likeness, w_ij = e^(beta l_ij) scaled to a mean of one.

    Source: Robinson et al. (2021), arXiv 2010.04592, eq. 4 without debiasing (tau+ = 0).
    """
    is_positive = torch.zeros_like(logits, dtype=torch.bool).fill_diagonal_(True)

    def log_sum_of_negatives(values: Tensor) -> Tensor:
        return values.masked_fill(is_positive, -torch.inf).logsumexp(dim=1)

    log_mean_weight = log_sum_of_negatives(beta * logits) - math.log(logits.shape[1] - 1)
    negatives = log_sum_of_negatives((1 + beta) * logits) - log_mean_weight
    positive = logits.diagonal()
    return torch.logaddexp(positive, negatives) - positive


@dataclass(frozen=True)
class Loss:
    """A loss and which facts about the pairs it uses; the others cost nothing."""

    function: Callable[..., Tensor]
    uses_lag: bool = False
    uses_semivariogram: bool = False  # and with it the lag and the image distance


LOSSES = {
    "infonce": Loss(infonce),
    "semivariogram": Loss(semivariogram, uses_lag=True, uses_semivariogram=True),
    "residual_scaling": Loss(residual_scaling, uses_lag=True, uses_semivariogram=True),
    "distance_soft": Loss(distance_soft, uses_lag=True),
    "hard_negative": Loss(hard_negative),
}
