"""A release folder, as the geoclip package (1.3) reads and writes it: weights, facts and a gallery of places.

`location_encoder/` inside it is a second, smaller release: the location encoder alone.
"""

import json
import math
from pathlib import Path

import polars as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.cli import InputError
from stages.shards import write_json, written_whole
from stages.train.model import GeoCLIP

WEIGHTS, CONFIG, GALLERY = "model.safetensors", "config.json", "gallery.csv"
_MODEL_TYPE, _LOCATION_TYPE, _FORMAT_VERSION = "geoclip-geolocation", "geoclip-location-encoder", 1
_LOCATION = "location_encoder."

# Of the features of CLIP's ViT-L-14, roughly: 10 to 20. GeoCLIP's head turns the same way whatever it is in that range.
CLIP_LENGTH = 14.0
# GeoCLIP's own backbone, by our names of it; others have no repository that the geoclip package could load.
GEOCLIP_BACKBONE = "openai/clip-vit-large-patch14"
_BACKBONES = {
    ("ViT-L-14", "openai"): GEOCLIP_BACKBONE,
    ("ViT-L-14-quickgelu", "openai"): GEOCLIP_BACKBONE,
}


def backbone(model: str, pretrained: str) -> dict[str, str]:
    """What config.json says of the image encoder: the repository and revision that the geoclip package loads."""
    repository = _BACKBONES.get((model, pretrained), f"{model}/{pretrained}")
    return {"repo_id": repository, "revision": "main"}


def write_release(folder: Path, model: GeoCLIP, gallery: pl.DataFrame, facts: dict) -> None:
    """Write the model, the distinct places of gallery (latitude, longitude) and facts, of which `sigma` is one."""
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    location = {key.removeprefix(_LOCATION): value for key, value in weights.items() if key.startswith(_LOCATION)}
    places = gallery.select(LAT="latitude", LON="longitude").unique(maintain_order=True)
    with written_whole(folder / GALLERY) as temporary:
        places.write_csv(temporary)
    kind = {"model_type": _MODEL_TYPE, "format_version": _FORMAT_VERSION, "gallery_file": GALLERY}
    _write_weights(folder, weights, kind | facts)
    kind = {"model_type": _LOCATION_TYPE, "format_version": _FORMAT_VERSION, "sigma": facts["sigma"]}
    _write_weights(folder / "location_encoder", location, kind)


def _write_weights(folder: Path, weights: dict[str, Tensor], config: dict) -> None:
    with written_whole(folder / WEIGHTS) as temporary:
        save_file(weights, temporary)
    write_json(folder / CONFIG, config)


def read_weights(folder: Path) -> tuple[dict[str, Tensor], dict]:
    """Weights by GeoCLIP's names, and what config.json says; {} of a folder without one.

    folder: a release, or the geoclip package's `model/weights`.  Raises InputError if it is neither.
    """
    if (folder / "location_encoder_weights.pth").is_file():
        return _read_package_weights(folder), {}
    config = read_config(folder)
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        raise _no_release(folder, error) from None
    return weights, config


def _no_release(folder: Path, reason: Exception) -> InputError:
    return InputError(f"{folder} is no GeoCLIP release: {reason}; name a folder with {CONFIG} and {WEIGHTS}")


def read_config(folder: Path) -> dict:
    """What a release of the whole model says of itself.  Raises InputError if the folder is none."""
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise _no_release(folder, error) from None
    kind = config.get("model_type"), config.get("format_version")
    if kind != (_MODEL_TYPE, _FORMAT_VERSION):
        raise InputError(
            f"{folder / CONFIG} says model_type {kind[0]!r}, format_version {kind[1]!r}; "
            f"a release of the whole model says {_MODEL_TYPE!r}, {_FORMAT_VERSION}"
        )
    return config


def _read_package_weights(folder: Path) -> dict[str, Tensor]:
    """The weights that the geoclip package ships, as one dict."""
    parts = {
        name: torch.load(folder / f"{name}_weights.pth", map_location="cpu", weights_only=True)
        for name in ("image_encoder_mlp", "location_encoder", "logit_scale")
    }
    return {
        "logit_scale": parts["logit_scale"].detach().float(),
        **{f"image_encoder.mlp.{key}": value for key, value in parts["image_encoder_mlp"].items()},
        **{f"{_LOCATION}{key}": value for key, value in parts["location_encoder"].items()},
    }


def _widths(weights: dict[str, Tensor]) -> dict:
    """Arguments of the GeoCLIP that has these weights; the sigmas are only counted, b comes with the weights."""
    n_capsules = sum(key.endswith(".capsule.0.b") for key in weights)
    return {
        "feature_width": weights["image_encoder.mlp.0.weight"].shape[1],
        "embedding_width": weights["image_encoder.mlp.2.weight"].shape[0],
        "hidden_width": weights[f"{_LOCATION}LocEnc0.head.0.weight"].shape[1],
        "fourier_width": weights[f"{_LOCATION}LocEnc0.capsule.0.b"].shape[0],
        "sigmas": [1.0] * n_capsules,
    }


def load_release(folder: Path) -> GeoCLIP:
    """The model of a release folder, on the CPU and ready for inference; its widths are those of its weights.

    Raises InputError if the folder is no release.
    """
    weights, _ = read_weights(folder)
    try:
        model = GeoCLIP(**_widths(weights))
        model.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise InputError(f"the weights in {folder} are not GeoCLIP's: {error}") from None
    return model.requires_grad_(False).eval()


def start_from(model: GeoCLIP, folder: Path, sigmas: list[float], center: list[float] | None = None) -> None:
    """Give a model the weights of a release folder, the image head's made to fit features with this center, or none.

    Raises InputError if they do not fit, naming the weight, both shapes and the param to change.
    """
    weights, config = read_weights(folder)
    its_sigmas = config.get("sigma", sigmas)
    if list(its_sigmas) != list(sigmas):
        raise InputError(f"{folder} has the sigmas {its_sigmas}, params.yaml has {sigmas}; change train.sigmas")
    own = model.state_dict()
    for key in sorted(own.keys() | weights.keys()):
        mine, its = (tuple(w[key].shape) if key in w else "missing" for w in (own, weights))
        if mine != its:
            raise InputError(
                f"{key} is {its} in {folder} and {mine} by params.yaml; change {_param_behind(key)}, "
                "or set train.init to random"
            )
    # GeoCLIP's own release says nothing of an encoder: its head learned from CLIP's features as they come.
    its_center, its_unit = _origin(config["encoder"].get("center")) if "encoder" in config else (0.0, 1 / CLIP_LENGTH)
    model.load_state_dict(weights | _refitted(weights, its_center, its_unit, *_origin(center)))


def _origin(center: list[float] | None) -> tuple[Tensor | float, float]:
    """Where 0 is among CLIP's features of unit length, and how long a unit is there, after the center was subtracted.

    The latter is the root mean square: with the mean m, E |f - m|² = 1 - |m|².
    """
    if center is None:
        return 0.0, 1.0
    mean = torch.tensor(center)
    return mean, math.sqrt(1 - float(mean @ mean))


def _refitted(
    weights: dict[str, Tensor], its_center: Tensor | float, its_unit: float, center: Tensor | float, unit: float
) -> dict[str, Tensor]:
    """The image head's first layer, which learned from features (f - its_center) / its_unit, for (f - center) / unit.

    Exact but for each photo's own length after centring, and for that of CLIP's feature before.
    """
    weight, bias = (weights[f"image_encoder.mlp.0.{part}"] for part in ("weight", "bias"))
    shift = torch.as_tensor(center - its_center).expand(weight.shape[1]) / its_unit
    return {"image_encoder.mlp.0.weight": weight * (unit / its_unit), "image_encoder.mlp.0.bias": bias + weight @ shift}


def _param_behind(key: str) -> str:
    """The param that decides the shape of a weight."""
    if key.startswith("image_encoder.mlp.0"):
        return "features.model to the encoder that the weights were trained with"
    if "capsule.0.b" in key:
        return "train.fourier_width (or the number of train.sigmas)"
    if "head" in key or key.startswith("image_encoder"):
        return "train.embedding_width (or features.model)"
    return "train.hidden_width or train.fourier_width"
