"""A run of a loss before its first step, from params and the splits' photos; and the digest of all that decides it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from stages.cli import InputError
from stages.params import Train
from stages.shards import FeatureRows, read_features
from stages.train.loop import Photos, Run, feature_reader
from stages.train.losses import LOSSES
from stages.train.model import GeoCLIP, seeded_model
from stages.train.pairs import tabulate
from stages.train.ranks import Ranks
from stages.train.release import start_from
from stages.train.validation import MAX_GALLERY, MAX_PHOTOS, Validation, evenly
from stages.variogram.models import Semivariogram

_CHUNK = 65_536  # features checked at a time


@dataclass(frozen=True)
class Split:
    """Photos of a split, and a digest of their places and features."""

    places: pl.DataFrame
    features: FeatureRows
    digest: str

    def angles(self, rows: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Latitudes and longitudes of rows, in degrees."""
        return tuple(self.places[column].to_numpy()[rows] for column in ("latitude", "longitude"))


def read_split(folder: Path) -> Split:
    """A split's photos; raises InputError if a feature is not a finite number."""
    places, features = read_features(folder)
    digest = hashlib.blake2b(places.select("latitude", "longitude").to_numpy().tobytes())
    for start in range(0, len(features), _CHUNK):
        chunk = features[start : start + _CHUNK]
        is_bad = ~np.isfinite(chunk).all(axis=1)
        if is_bad.any():
            raise InputError(
                f"the feature of photo {places['id'][start + int(is_bad.argmax())]} in {folder} is NaN or infinite; "
                "features are finite numbers: remove the folder and make them again with dvc repro features"
            )
        digest.update(chunk)
    return Split(places, features, digest.hexdigest())


def start_model(p: Train, feature_width: int, center: list[float] | None) -> GeoCLIP:
    """The model before its first step: random by train.seed, or the weights of the folder that train.init names."""
    widths = {key: getattr(p, key) for key in ("embedding_width", "hidden_width", "fourier_width", "sigmas")}
    model = seeded_model(p.seed, feature_width=feature_width, **widths)
    if p.init != "random":
        start_from(model, Path(p.init), p.sigmas, center)
    return model


def run_facts(name: str, p: Train) -> dict:
    """The params that determine a run: the section without the list of losses and the params of the others."""
    return {"loss": name, **p.model_dump(exclude={"losses", *LOSSES} - {name})}


def fingerprint(facts: dict, splits: list[Split], start: Run) -> str:
    """Digest of all that determines a run: its params, inputs, curves and first weights, and this folder's code."""
    digest = hashlib.blake2b(repr((facts, [split.digest for split in splits])).encode())
    curves = [start.curves.semivariance, start.curves.std, start.curves.correlation] if start.curves else []
    for tensor in [*start.model.state_dict().values(), *curves]:
        digest.update(tensor.cpu().numpy().tobytes())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def prepare(
    name: str,
    p: Train,
    training: Split,
    semivariogram: Semivariogram | None,
    *,
    device: torch.device,
    center: list[float] | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008  frozen
) -> Run:
    """The run of a loss before its first step. center: the mean that was subtracted from the features, or None."""
    loss = LOSSES[name]
    model = start_model(p, training.features.shape[1], center).to(device)
    photos = Photos(*training.angles(), feature_reader(training.features, device))
    curves = tabulate(semivariogram, device) if loss.uses_semivariogram else None
    return Run(model, loss, getattr(p, name).model_dump(), p, photos, curves, ranks)


def validation_of(training: Split, validation: Split, device: torch.device) -> Validation:
    """Photos of the validation split to look for among the training places."""
    rows = evenly(len(validation.places), MAX_PHOTOS)
    gallery = training.angles(evenly(len(training.places), MAX_GALLERY))
    return Validation(validation.features[rows], validation.angles(rows), gallery, device)
