"""Evaluate a model, its refined answer or a baseline on the test photos: predictions, metrics, error-distance curve."""

import json
from pathlib import Path
from textwrap import shorten
from typing import Annotated

import numpy as np
import polars as pl
import torch
import typer

from stages.cli import InputError, run, show_table
from stages.evaluate import baselines, geocode, kriging, metrics
from stages.evaluate.choice import SETTINGS, SOURCES, Setting, choose, describe, in_words
from stages.evaluate.gallery import TopPlaces, embed_photos, embed_places, joined, locate, read_gallery, sample
from stages.evaluate.refine import CANDIDATES, best_error_km, find_candidates, rank
from stages.geo import great_circle_km
from stages.params import REFINED, Evaluate, load_params
from stages.shards import FeatureRows, read_features, write_json, written_whole
from stages.train.model import GeoCLIP
from stages.train.release import CONFIG, GALLERY, load_release, read_config
from stages.variogram.models import read_model

MODELS, PREDICTIONS, REPORTS = Path("data/models"), Path("data/predictions"), Path("reports/evaluation")
VARIOGRAM = Path("data/variogram/model.json")
CHOICE_PHOTOS = 20_000  # of a larger validation split every second, third ... photo chooses the refinement
CURVE_KM = np.geomspace(0.1, 20000, 107)  # twenty points a decade, up to half the Earth's circumference


def fastest_device() -> str:
    """The GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def by_image_knn(features: FeatureRows, training: Path, p: Evaluate) -> TopPlaces:
    """The places of the training photos most like each photo; they have no probability."""
    places, training_features = read_features(training)
    queries = torch.from_numpy(features[:].astype(np.float32)).to(fastest_device())
    rows, _ = baselines.image_knn(queries, training_features, p.top_k)
    latitude, longitude = places.select("latitude", "longitude").to_numpy().T
    return TopPlaces(latitude[rows], longitude[rows], None)


def by_most_frequent(features: FeatureRows, training: Path, p: Evaluate) -> TopPlaces:
    """The same densest places for every photo; the probability is the share of training photos near them."""
    latitude, longitude = read_features(training)[0].select("latitude", "longitude").to_numpy().T
    rows, share = baselines.most_frequent(latitude, longitude, p.top_k)
    n = len(features)
    return TopPlaces(*(np.tile(values, (n, 1)) for values in (latitude[rows], longitude[rows], share)))


BASELINES = {"image_knn": by_image_knn, "most_frequent": by_most_frequent}


def open_model(name: str, p: Evaluate) -> tuple[GeoCLIP, tuple[np.ndarray, np.ndarray]]:
    """The model called name and the gallery that it searches; raises InputError if there is none."""
    release = MODELS / name
    if not release.is_dir():
        trained = sorted(path.name for path in MODELS.glob("*/"))
        raise InputError(
            f"{release} is missing; train it first: dvc repro train@{name}, "
            f"or evaluate one of: {', '.join([*trained, *BASELINES])}"
        )
    model = load_release(release).to(fastest_device())
    path = release / GALLERY if p.gallery == "train" else Path(p.gallery)
    return model, sample(read_gallery(path), p.gallery_size, p.seed)


def check_encoder(name: str, features: Path) -> None:
    """Raise InputError if the features here were made otherwise than those that the model called name learned from."""
    release, made = MODELS / name, features / "encoder.json"
    if not (release / CONFIG).is_file():
        return  # open_model says what is missing
    its, here = read_config(release).get("encoder"), json.loads(made.read_text()) if made.is_file() else {}
    if its is None:
        return  # a release of others, which does not say
    for key in sorted((its.keys() | here.keys()) - {"photos"}):
        if its.get(key) != here.get(key):
            was, now = (shorten(f"{facts.get(key)}", 60, placeholder=" ...") for facts in (its, here))
            raise InputError(
                f"{release} was trained on features of another encoder than {features} has: its '{key}' is {was}, "
                f"here it is {now}; set the params back and run dvc repro features, or train anew: "
                f"dvc repro train@{name}"
            )


def by_model(name: str, features: FeatureRows, p: Evaluate) -> TopPlaces:
    """The places of the gallery that the model finds most similar to each photo."""
    model, gallery = open_model(name, p)
    return locate(model, embed_photos(model, features), gallery, embed_places(model, *gallery), p.top_k)


def by_refinement(loss: str, features: FeatureRows, source: Path, p: Evaluate) -> tuple[TopPlaces, dict]:
    """The refined answer of a loss's model, and how it was chosen on the validation photos."""
    model, gallery = open_model(loss, p)
    photos, photo_features = read_features(source / "val")
    if photos.is_empty():
        raise InputError(
            "there is no validation photo to choose the refinement by; "
            "raise shard.validation_fraction, or take the loss out of evaluate.refine"
        )
    step = -(-len(photos) // CHOICE_PHOTOS)
    places, training_features = read_features(source / "train")
    training_places = tuple(places.select("latitude", "longitude").to_numpy().T)
    training = kriging.index(*training_places, training_features)
    known = gallery, training, training_places, read_model(VARIOGRAM), max(CANDIDATES, p.top_k)

    of_validation, of_test = find_candidates(model, (photo_features[::step], features), *known)
    errors_km: dict[Setting, list] = {setting: [] for setting in SETTINGS}
    choosing = photos.gather_every(step)
    truth = choosing.select("latitude", "longitude").to_numpy()
    for found in of_validation:
        of_chunk, truth = truth[: len(found.latitude)], truth[len(found.latitude) :]
        for setting, errors in errors_km.items():
            errors.append(best_error_km(found, setting, *of_chunk.T))
    errors_km = {setting: np.concatenate(errors) for setting, errors in errors_km.items()}
    chosen = choose(errors_km, metrics.drives(choosing["sequence"]))
    return joined([rank(found, chosen, p.top_k) for found in of_test]), describe(chosen, errors_km)


def predict(name: str, features: FeatureRows, source: Path, p: Evaluate) -> tuple[TopPlaces, dict]:
    """What the model, refined answer or baseline called name says of every photo, and facts about it, if any."""
    if name in BASELINES:
        return BASELINES[name](features, source / "train", p), {}
    check_encoder(name.removesuffix(REFINED), source)
    if name.endswith(REFINED):
        return by_refinement(name.removesuffix(REFINED), features, source, p)
    return by_model(name, features, p), {}


def prediction_table(places: pl.DataFrame, top: TopPlaces) -> pl.DataFrame:
    """A row a photo: its id, its true place, the predicted one, the error in km, and the best places as lists."""
    truth = places.select("id", "latitude", "longitude")
    best = {"predicted_latitude": top.latitude[:, 0], "predicted_longitude": top.longitude[:, 0]}
    error_km = great_circle_km(truth["latitude"].to_numpy(), truth["longitude"].to_numpy(), *best.values())
    return truth.with_columns(
        **{key: pl.Series(values) for key, values in best.items()},
        error_km=pl.Series(error_km),
        top_latitude=as_lists(top.latitude),
        top_longitude=as_lists(top.longitude),
        top_probability=pl.lit(None, pl.List(pl.Float64)) if top.probability is None else as_lists(top.probability),
    )


def as_lists(values: np.ndarray) -> pl.Series:
    """A list a row, without the NaN at its end. values: (n, k)."""
    return pl.Series(values.astype(np.float64), dtype=pl.List(pl.Float64)).list.eval(pl.element().drop_nans())


def main(
    name: Annotated[
        str, typer.Argument(help="LOSS with a model in data/models, LOSS_refined, image_knn or most_frequent.")
    ],
) -> None:
    """Evaluate a model, its refined answer or a baseline on the test photos."""
    params = load_params()
    p, source = params.evaluate, Path("data") / params.data.source
    places, features = read_features(source / "features" / "test")
    if places.is_empty():
        raise InputError(f"{source}/features/test holds no photo; an evaluation needs at least one")
    towns = geocode.read_towns(source / "raw" / "geography" / "places.csv")

    top, facts = predict(name, features, source / "features", p)
    predictions = prediction_table(places, top)
    error_km = predictions["error_km"].to_numpy()
    predicted_areas = geocode.areas(towns, top.latitude[:, 0], top.longitude[:, 0])
    is_right = geocode.is_right(places, predicted_areas)
    summary = metrics.summarize(
        error_km, metrics.drives(places["sequence"]), is_right, n_bootstrap=p.n_bootstrap, seed=p.seed
    )
    curve = pl.DataFrame({"distance_km": CURVE_KM, "accuracy": metrics.accuracy_curve(error_km, CURVE_KM)})

    with written_whole(PREDICTIONS / f"{name}.parquet") as temporary:
        predictions.write_parquet(temporary)
    with written_whole(REPORTS / f"{name}.csv") as temporary:
        curve.write_csv(temporary)
    write_json(REPORTS / f"{name}.json", summary | facts)
    show_summary(name, summary)
    if facts:
        show_choice(facts)


def show_summary(name: str, summary: dict[str, float]) -> None:
    """Print the metrics with their intervals."""
    keys = [key for key in summary if f"{key}_low" in summary]
    rows = [(key, *(_number(key, summary[key + end]) for end in ("", "_low", "_high"))) for key in keys]
    show_table(f"{name}, {summary['count']} test photos", ("metric", "value", "95 % from", "to"), rows)


def show_choice(facts: dict) -> None:
    """Print how an answer was refined, and on the validation photos it and its sources."""
    keys = list(metrics.THRESHOLDS_KM)
    rows = [(name, *(f"{facts[f'validation_{name}_{key}']:.1%}" for key in keys)) for name in (*SOURCES, "refined")]
    show_table(f"the {facts['validation_count']} validation photos", ["", *keys], rows)
    typer.echo(in_words(facts))


def _number(key: str, value: float) -> str:
    return f"{value:.1%}" if key.startswith("accuracy") else f"{value:,.1f}"


if __name__ == "__main__":
    run(main)
