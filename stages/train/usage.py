"""How a release is used with the geoclip package (1.3): text for its model card."""

from stages.train.release import GEOCLIP_BACKBONE, backbone

GEOCLIP_WIDTHS = {"embedding_width": 512, "hidden_width": 1024, "fourier_width": 256}  # the only ones that it makes

# geoclip gives its head CLIP's features as they come, 10 to 20 times as long as the ones that ours learned from.
_WHOLE_MODEL = """With the package `geoclip`, whose image encoder must give the heads features as they learned from:

```python
import json
from pathlib import Path

import torch
from geoclip import GeoCLIP
from torch.nn.functional import normalize

folder = Path(".")  # this one
model = GeoCLIP.from_pretrained(folder)
center = torch.tensor(json.loads((folder / "config.json").read_text())["encoder"]["center"] or 0.0)


def as_in_training(mlp, features):
    return normalize(normalize(features[0], dim=1) - center, dim=1)


model.image_encoder.mlp.register_forward_pre_hook(as_in_training)
places, probabilities = model.predict("photo.jpg", top_k=5)
```"""
_PLACES_ALONE = """Its location encoder alone, places to vectors, with the package `geoclip`:

```python
from geoclip import LocationEncoder

location_encoder = LocationEncoder.from_pretrained("./location_encoder")  # of this folder
```"""


def is_geoclips(training: dict, encoder: dict) -> bool:
    """Whether the geoclip package can load the whole model.  Both: as in config.json."""
    return not _other_widths(training) and not _other_encoder(encoder)


def use_with_geoclip(training: dict, encoder: dict) -> str:
    """How to use a release with the geoclip package, or what that cannot load of it.  Both: as in config.json."""
    if is_geoclips(training, encoder):
        return f"{_WHOLE_MODEL}\n\n{_PLACES_ALONE}"
    reasons = "; ".join(filter(None, (_other_encoder(encoder), _other_widths(training))))
    refusal = f"The package `geoclip` cannot load this model: {reasons}."
    return refusal if _other_widths(training) else f"{refusal}\n\n{_PLACES_ALONE}"


def _other_widths(training: dict) -> str:
    """How the heads' widths differ from geoclip's; "" if they do not."""
    others = [f"{key} {training[key]}, not {width}" for key, width in GEOCLIP_WIDTHS.items() if training[key] != width]
    return f"its heads are others ({', '.join(others)})" if others else ""


def _other_encoder(encoder: dict) -> str:
    """How the image encoder differs from geoclip's; "" if it does not."""
    is_its = backbone(encoder["model"], encoder["pretrained"])["repo_id"] == GEOCLIP_BACKBONE
    return "" if is_its else "its image encoder is not OpenAI's ViT-L-14, the only one that `geoclip` takes"
