"""The image encoder: any open_clip model, with downloaded, local or seeded random weights."""

import difflib
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import model_info, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from stages.cli import InputError
from stages.params import Features
from stages.shards import write_json


def _import_open_clip():
    """open_clip, also beside a torchvision that was built for another torch.

    A package index may pair torch's CPU build with a torchvision built for CUDA, whose operators then do not load and
    whose import fails. open_clip only uses torchvision's transforms, which are plain Python: they import once the two
    operators that torchvision describes to torch are declared. The declarations last as long as the returned library.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    else:
        library = None
    import open_clip

    return open_clip, library


open_clip, _declarations = _import_open_clip()
open_clip.add_model_config(Path(__file__).with_name("varioclip-tiny.json"))

UNTRAINED = "untrained"
_HUB_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Encoder:
    """A frozen image tower with the preprocessing that it was made for."""

    visual: nn.Module
    transform: Callable[[Image.Image], Tensor]
    device: torch.device
    width: int  # number d of a feature's values

    @property
    def preprocessing(self) -> dict:
        """Size, mean, standard deviation, interpolation: what turns a photo into a tensor."""
        return open_clip.get_model_preprocess_cfg(self.visual)

    def preprocess(self, image: Image.Image) -> Tensor:
        """A photo as the tower wants it: (3, side, side) float32."""
        return self.transform(image.convert("RGB"))

    @torch.inference_mode()
    def encode(self, images: Tensor) -> np.ndarray:
        """Unit features (b, d) float32 of preprocessed images (b, 3, side, side)."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            feature = self.visual(images.to(self.device))
        if isinstance(feature, tuple):  # CoCa's tower gives its tokens too
            feature = feature[0]
        return F.normalize(feature.float(), dim=1).cpu().numpy()


def load_encoder(model: str, pretrained: str, seed: int) -> Encoder:
    """An open_clip image encoder, on the GPU if there is one; the caller's random numbers go on undisturbed.

    model: an open_clip model name.  pretrained: an open_clip weights tag, a weights file, or `untrained`, for random
    weights that depend on the seed alone. A file does not say how its weights were trained: the photos are prepared,
    and the activation chosen, as the model's name says.
    Raises InputError for an unknown model or tag, and for weights that cannot be had or do not fit the model.
    """
    names = open_clip.list_models()
    if model not in names:
        nearest = difflib.get_close_matches(model, names, n=3, cutoff=0)
        raise InputError(f"features.model: '{model}' is no open_clip model; did you mean {' or '.join(nearest)}?")
    tag = {} if pretrained == UNTRAINED else _weights_tag(model, pretrained)
    try:
        with torch.random.fork_rng(devices=[]), _random_weights_are_meant(pretrained == UNTRAINED):
            torch.manual_seed(seed)
            clip = open_clip.create_model(
                model,
                None if pretrained == UNTRAINED else pretrained,
                # OpenAI's weights want QuickGELU: without it features are silently wrong (open_clip issue 771).
                force_quick_gelu=tag.get("quick_gelu", False),
            )
    except Exception as error:  # files that are no weights, weights of another model, packages that are not installed
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"features.pretrained: open_clip cannot make {model} with '{pretrained}' ({reason}); "
            "name weights of this model, or the model of these weights"
        ) from error
    visual = clip.visual.eval().requires_grad_(False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    transform = _transform(open_clip.get_model_preprocess_cfg(clip))
    return Encoder(visual.to(device), transform, device, open_clip.get_model_config(model)["embed_dim"])


def _transform(preprocessing: dict) -> Callable[[Image.Image], Tensor]:
    return open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**preprocessing), is_train=False)


@functools.lru_cache(maxsize=1)
def loaded_encoder(model: str, pretrained: str, seed: int) -> Encoder:
    """load_encoder's, loaded once: it takes seconds, and a process works on many shards."""
    return load_encoder(model, pretrained, seed)


@contextmanager
def _random_weights_are_meant(are_meant: bool) -> Iterator[None]:
    """While the block runs, open_clip does not warn that a model has random weights, if they are what was asked for."""

    def is_shown(record: logging.LogRecord) -> bool:
        return not (are_meant and record.getMessage().startswith("No pretrained weights loaded"))

    root = logging.getLogger()  # open_clip logs to it
    root.addFilter(is_shown)
    try:
        yield
    finally:
        root.removeFilter(is_shown)


def _weights_tag(model: str, pretrained: str) -> dict:
    """open_clip's facts about a weights tag; {} for a file.

    Raises InputError if the tag is unknown, or if its weights are neither here nor to be had: found out at once,
    because open_clip itself tries for most of a minute before it says so.
    """
    tag = open_clip.get_pretrained_cfg(model, pretrained)
    if not tag:
        if Path(pretrained).is_file():
            return {}
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or f"none; use {UNTRAINED} or a weights file"
        raise InputError(
            f"features.pretrained: '{pretrained}' is neither a file nor a weights tag of {model}; its tags: {tags}"
        )
    repository, file = os.path.split(tag["hf_hub"])
    files = [file] if file else [open_clip.constants.HF_SAFE_WEIGHTS_NAME, open_clip.constants.HF_WEIGHTS_NAME]
    if any(isinstance(try_to_load_from_cache(repository, name), str) for name in files):
        return tag
    try:
        model_info(repository, timeout=_HUB_TIMEOUT_SECONDS)
    except Exception as error:  # whatever it is, the weights cannot be had
        raise InputError(
            f"features.pretrained: the weights '{pretrained}' of {model} are not on this machine, and the Hugging Face "
            f"hub does not answer ({type(error).__name__}). Run `hf download {repository} {files[0]}` where there is a "
            f"network and copy its ~/.cache/huggingface/hub to {HF_HUB_CACHE}, or set features.model to varioclip-tiny "
            f"and features.pretrained to {UNTRAINED}"
        ) from None
    return tag


def center(feature: np.ndarray, mean: np.ndarray | None) -> np.ndarray:
    """Unit features (n, d) float32 minus the training mean (d,), of unit length again; unchanged without a mean."""
    if mean is None:
        return feature
    centered = feature - mean
    return centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def write_encoder(
    path: Path,
    encoder: Encoder,
    p: Features,
    *,
    short_side_px: int,
    mean: np.ndarray | None,
    n_photos: dict[str, int],
) -> None:
    """Write encoder.json: all that it takes to embed a new photo as these were."""
    facts = {
        "model": p.model,
        "pretrained": p.pretrained,
        "seed": p.seed,
        "width": encoder.width,
        "short_side_px": short_side_px,
        "preprocessing": encoder.preprocessing,
        "photos": n_photos,
        "center": None if mean is None else mean.tolist(),
    }
    write_json(path, facts)


def read_encoder(facts: dict) -> tuple[Encoder, np.ndarray | None]:
    """The encoder that made features and the training mean (d,) float32 that they lack, or None.

    facts: what encoder.json says, or a release's config.json in its section `encoder`.
    """
    encoder = load_encoder(facts["model"], facts["pretrained"], facts["seed"])
    mean = None if facts["center"] is None else np.array(facts["center"], np.float32)
    # Not what this open_clip says of the model: another version of it may say something else.
    return replace(encoder, transform=_transform(facts["preprocessing"])), mean
