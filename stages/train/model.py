"""GeoCLIP's two heads: an MLP on frozen image features and an encoder of places, into one space of unit vectors.

Architecture and parameter names are those of GeoCLIP (arXiv 2309.16020), so that weights travel both ways.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from stages.geo import equal_earth

_MAP_SCALE = 66.50336 / 180  # GeoCLIP's unit of the Equal Earth map: the map then spans about 2 by 1
_INITIAL_LOGIT_SCALE = math.log(1 / 0.07)  # CLIP's


class FourierFeatures(nn.Module):
    """Random Fourier features of map coordinates: the cosines, then the sines of 2π b v, with b ~ N(0, sigma²)."""

    def __init__(self, sigma: float, width: int):
        super().__init__()
        self.b = nn.Parameter(sigma * torch.randn(width, 2), requires_grad=False)

    def forward(self, xy: Tensor) -> Tensor:
        """Features (g, 2 width) of map coordinates (g, 2)."""
        # Products and not a matmul: phases run to thousands of radians, and autocast would round a matmul to bfloat16.
        phase = 2 * math.pi * (xy[:, :1] * self.b[:, 0] + xy[:, 1:] * self.b[:, 1])
        return torch.cat([phase.cos(), phase.sin()], dim=1)


class Capsule(nn.Module):
    """An MLP on the Fourier features of one sigma."""

    def __init__(self, sigma: float, fourier_width: int, hidden_width: int, embedding_width: int):
        super().__init__()
        widths = [2 * fourier_width, hidden_width, hidden_width, hidden_width]
        layers = [(nn.Linear(*pair), nn.ReLU()) for pair in zip(widths, widths[1:], strict=False)]
        self.capsule = nn.Sequential(FourierFeatures(sigma, fourier_width), *(part for pair in layers for part in pair))
        self.head = nn.Sequential(nn.Linear(hidden_width, embedding_width))

    def forward(self, xy: Tensor) -> Tensor:
        """Embeddings (g, e) of map coordinates (g, 2)."""
        return self.head(self.capsule(xy))


class LocationEncoder(nn.Module):
    """Places to embeddings: the Equal Earth map, then the sum of a capsule for each sigma."""

    def __init__(self, sigmas: Sequence[float], fourier_width: int, hidden_width: int, embedding_width: int):
        super().__init__()
        for index, sigma in enumerate(sigmas):
            self.add_module(f"LocEnc{index}", Capsule(sigma, fourier_width, hidden_width, embedding_width))

    def forward(self, latitude_deg: Tensor, longitude_deg: Tensor) -> Tensor:
        """Embeddings (g, e), of any length, of places (g,)."""
        xy = _MAP_SCALE * torch.stack(equal_earth(latitude_deg, longitude_deg), dim=1)
        xy = xy.to(self.LocEnc0.head[0].weight.dtype)
        return sum(capsule(xy) for capsule in self.children())


class ImageEncoder(nn.Module):
    """The head on a frozen encoder's features."""

    def __init__(self, feature_width: int, embedding_width: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(feature_width, feature_width), nn.ReLU(), nn.Linear(feature_width, embedding_width)
        )

    def forward(self, feature: Tensor) -> Tensor:
        """Embeddings (n, e), of any length, of features (n, d)."""
        return self.mlp(feature)


class GeoCLIP(nn.Module):
    """Image head, location encoder and the logarithm of the scale that turns cosines into logits."""

    def __init__(
        self,
        *,
        feature_width: int,
        embedding_width: int,
        hidden_width: int,
        fourier_width: int,
        sigmas: Sequence[float],
    ):
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(_INITIAL_LOGIT_SCALE))
        self.image_encoder = ImageEncoder(feature_width, embedding_width)
        self.location_encoder = LocationEncoder(sigmas, fourier_width, hidden_width, embedding_width)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.logit_scale.device

    def image_embedding(self, feature: Tensor) -> Tensor:
        """Unit vectors (n, e) of frozen features (n, d)."""
        return F.normalize(self.image_encoder(feature).float(), dim=1)

    def place_embedding(self, latitude_deg: Tensor, longitude_deg: Tensor) -> Tensor:
        """Unit vectors (g, e) of places (g,), best given in float64."""
        return F.normalize(self.location_encoder(latitude_deg, longitude_deg).float(), dim=1)


def seeded_model(seed: int, **widths) -> GeoCLIP:
    """GeoCLIP with random weights that depend on the seed alone; the caller's random numbers go on undisturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GeoCLIP(**widths)
