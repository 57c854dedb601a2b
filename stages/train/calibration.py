"""After training: the temperature at which a model's probabilities are as often right as they say."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from stages.geo import unit_vectors
from stages.train.model import GeoCLIP
from stages.train.pairs import pair_lag_km
from stages.train.validation import Validation

NEAR_KM = 25.0  # around a place: its city
# From 0.5 to 8, where places are nearly alike: photos that want more are not of the gallery's world, and cannot tell.
# A grid, for a rounding in the last digit must not change a release's bytes.
TEMPERATURES = tuple(2.0 ** (step / 8) for step in range(-8, 25))
_CHUNK = 256  # photos whose logits are looked at together: 20 MB for 20,000 places
_PLACES = 4096  # places embedded at a time


def best_temperature(chunks: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The temperature of TEMPERATURES by which the photos most probably are where they are; 1 if none can tell.

    chunks: of some photos each, their logits (c, g) and whether each place is near the photo's true one (c, g) bool.
    A photo's likelihood is the probability of all places near it. One without any tells nothing: a softmax says where a
    photo is if the gallery has its place.
    Source: Guo et al. (2017), arXiv 1706.04599, section 4.2, with a neighbourhood instead of a class.
    """
    log_likelihood = torch.zeros(len(TEMPERATURES), dtype=torch.float64)
    n_known = 0
    for logits, is_near in chunks:
        is_known = is_near.any(dim=1)
        logits, is_near = logits[is_known], is_near[is_known]
        n_known += len(logits)
        for index, temperature in enumerate(TEMPERATURES):
            scaled = logits / temperature
            near = scaled.masked_fill(~is_near, -torch.inf)
            log_likelihood[index] += float((near.logsumexp(dim=1) - scaled.logsumexp(dim=1)).double().sum())
    return TEMPERATURES[int(log_likelihood.argmax())] if n_known else 1.0


@torch.no_grad()
def calibrate(model: GeoCLIP, validation: Validation) -> float:
    """Divide a model's logits by the temperature that fits the validation photos, in its logit scale; returns it.

    The order of the places is as before. Training makes a model too sure: it has seen the photos that it learns from.
    """
    image = model.image_embedding(validation.feature)
    angles = (angle.split(_PLACES) for angle in validation.gallery)
    gallery = torch.cat([model.place_embedding(*chunk) for chunk in zip(*angles, strict=True)])
    there, here = (unit_vectors(*place) for place in (validation.gallery, validation.place))
    scale = model.logit_scale.exp()
    temperature = best_temperature(
        (scale * image[rows] @ gallery.T, pair_lag_km(here[rows], there) <= NEAR_KM)
        for rows in torch.arange(len(image), device=image.device).split(_CHUNK)
    )
    model.logit_scale -= math.log(temperature)
    return temperature
