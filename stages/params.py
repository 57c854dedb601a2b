"""params.yaml as typed, validated models: one class a section. Values live in params.yaml only; here are their rules.

`python -m stages.params` checks the whole file and says what is wrong with it.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML, YAMLError

from stages.cli import InputError, run

PARAMS_FILE = Path("params.yaml")

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Archives = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
ArchivesOrAll = Archives | Literal["all"]


class Section(BaseModel):
    """A section of params.yaml: every key is required, none may be added, no value is converted from text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class World(Section):
    """The synthetic world."""

    seed: CountOrZero
    n_train: Annotated[int, Field(ge=100)]  # photos, the validation split among them
    n_test: Annotated[int, Field(ge=10)]
    height_px: Annotated[int, Field(ge=32, le=512)]  # of a photo; its width is 4/3 of that


class Hub(Section):
    """OSV5M on the Hugging Face hub."""

    repository: str
    revision: str
    train_archives: ArchivesOrAll
    test_archives: ArchivesOrAll


class Mirror(Section):
    """A folder or fsspec URL in OSV5M's layout."""

    url: str
    train_archives: ArchivesOrAll
    test_archives: ArchivesOrAll


class Data(Section):
    """Where the photos come from; only the section that `source` names is in use."""

    source: Literal["world", "hub", "mirror"]
    world: World
    hub: Hub
    mirror: Mirror


def _ordered(box: list[float]) -> list[float]:
    south, west, north, east = box
    if not (-90 <= south < north <= 90 and -180 <= west <= 180 and -180 <= east <= 180):
        raise ValueError("should be [south, west, north, east] in degrees, south < north")
    return box


class Filter(Section):
    """Which photos to keep."""

    bounding_box: Annotated[list[float], Field(min_length=4, max_length=4), AfterValidator(_ordered)] | None
    countries: list[Annotated[str, Field(pattern="^[A-Z]{2}$")]]
    fraction: Annotated[float, Field(gt=0, le=1)]
    max_photos: CountOrZero


class Shard(Section):
    """Archives to Parquet shards."""

    short_side_px: CountOrZero
    filter: Filter
    validation: Literal["places", "osv5m"]
    validation_fraction: Share
    max_rejected_fraction: Annotated[float, Field(ge=0, le=1)]
    seed: CountOrZero


class Features(Section):
    """Images to CLIP features."""

    model: str
    pretrained: str
    center: bool
    batch_size: Count
    seed: CountOrZero


class Variogram(Section):
    """The semivariogram of the features."""

    estimator: Literal["matheron", "cressie"]
    pairs: Literal["auto", "exhaustive", "stratified"]
    n_pairs_per_lag: Annotated[int, Field(ge=30)]
    first_lag_km: Annotated[float, Field(gt=0, lt=1000)]
    n_lags: Annotated[int, Field(ge=5, le=1000)]
    skip_same_sequence: bool
    models: Annotated[list[str], Field(min_length=1)]  # checked by the stage, which knows why some are refused
    groups: Literal["none", "country", "latitude"]
    seed: CountOrZero


class InfoNCE(Section):
    """GeoCLIP's own loss has no params."""


class SemivariogramLoss(Section):
    """Strengths of the regulariser's halves and of its soft targets; 0 switches each off."""

    beta_hard: NonNegative
    beta_false: NonNegative
    soft_share: Share
    soft_length_km: Positive


class ResidualScaling(Section):
    """The authors' public prototype; 1 is theirs, 0 is infonce."""

    strength: NonNegative


class DistanceSoft(Section):
    """Soft targets that decay with distance; strength 0 is infonce."""

    strength: Share
    length_km: Positive


class HardNegative(Section):
    """Negatives weighted by their own similarity; beta 0 is infonce."""

    beta: NonNegative


REFINED = "_refined"  # after a loss's name: its answer, refined
LossName = Literal["infonce", "semivariogram", "residual_scaling", "distance_soft", "hard_negative"]


def _distinct(names: list) -> list:
    if len(set(names)) < len(names):
        raise ValueError(f"names one twice; name each once: {sorted(set(names))}")
    return names


class Train(Section):
    """GeoCLIP's heads and their training."""

    losses: Annotated[list[LossName], Field(min_length=1), AfterValidator(_distinct)]
    seed: CountOrZero
    epochs: Count
    patience: CountOrZero
    batch_size: Annotated[int, Field(ge=2)]
    queue_size: CountOrZero
    learning_rate: Positive
    weight_decay: NonNegative
    init: str
    embedding_width: Count
    hidden_width: Count
    fourier_width: Count
    sigmas: Annotated[list[Positive], Field(min_length=1)]
    noise_m: NonNegative
    queue_noise_m: NonNegative
    n_processes: Count
    infonce: InfoNCE
    semivariogram: SemivariogramLoss
    residual_scaling: ResidualScaling
    distance_soft: DistanceSoft
    hard_negative: HardNegative


class Evaluate(Section):
    """Retrieval over a gallery of places."""

    gallery: str
    gallery_size: CountOrZero
    top_k: Annotated[int, Field(ge=1, le=1000)]
    n_bootstrap: Annotated[int, Field(ge=100)]
    refine: Annotated[list[LossName], AfterValidator(_distinct)]
    seed: CountOrZero


class Report(Section):
    """The HTML page."""

    n_examples: Annotated[int, Field(ge=1, le=50)]


class Cluster(Section):
    """Where the heavy stages run; no result depends on it."""

    address: str | None
    storage: str | None


class Params(Section):
    """All of params.yaml."""

    data: Data
    shard: Shard
    features: Features
    variogram: Variogram
    train: Train
    evaluate: Evaluate
    report: Report
    cluster: Cluster


def _keys_at(location: tuple[str | int, ...]) -> list[str]:
    """Keys that the section at location knows."""
    section: Any = Params
    for key in location:
        section = section.model_fields[key].annotation
    return list(section.model_fields)


def _explain(error: dict[str, Any]) -> str:
    # pydantic puts the branch of a union into the location; the key that a person wrote ends before it.
    location = [str(part) for part in error["loc"] if "[" not in str(part)]
    *section, key = location or ["params.yaml"]
    where, section_name = ".".join(location), ".".join(section) or "params.yaml"
    if error["type"] == "extra_forbidden":
        known = _keys_at(tuple(section))
        nearest = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"choose from: {', '.join(sorted(known))}"
        return f"{where}: '{key}' is not a key of section '{section_name}'; {hint}"
    if error["type"] == "missing":
        return f"{where}: key '{key}' is missing from section '{section_name}'; add it"
    rule = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where}: {error['input']!r} is wrong: {rule}"


def load_params(path: Path = PARAMS_FILE) -> Params:
    """All params, validated.

    Raises InputError if the file is missing, is not YAML, or breaks a rule: every broken rule has its line.
    """
    try:
        # YAML 1.2, as DVC reads it: 1e-3 is a number, no is a word.
        values = YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path} is not in {Path.cwd()}; run from the repository's top folder") from None
    except YAMLError as error:
        raise InputError(f"{path} is not YAML: {error}") from None
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        # A misspelt key is both unknown and missing: first the one that names the right key.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise InputError("\n".join(f"{path}: {_explain(e)}" for e in errors)) from None
    for loss in params.evaluate.refine:
        if loss not in params.train.losses:
            raise InputError(
                f"{path}: evaluate.refine: '{loss}' is not trained, train.losses is {params.train.losses}; "
                "add it there, or take it out here"
            )
    return params


def main() -> None:
    """Check the whole of params.yaml and say what is wrong with it."""
    load_params()


if __name__ == "__main__":
    run(main)
