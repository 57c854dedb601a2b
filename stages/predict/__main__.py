"""Say where photos were taken: the most probable places of a trained model's gallery, as a table, CSV, JSON or map."""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import torch
import typer
from tqdm import tqdm

from stages.cli import InputError, run, show_table
from stages.evaluate.gallery import TopPlaces, embed_photos, embed_places, locate, read_gallery
from stages.evaluate.geocode import read_towns
from stages.features.encoder import Encoder, center, read_encoder
from stages.params import load_params
from stages.predict.answers import answer_table, to_json, to_rows
from stages.predict.cache import cache_file, cache_folder, kept
from stages.predict.photos import list_photos, read_photo
from stages.shards import written_whole
from stages.train.release import GALLERY, load_release

BATCH = 64  # photos that are decoded and embedded at a time
MAP_SUFFIXES = (".png", ".svg", ".pdf")


def embed(
    paths: list[Path], encoder: Encoder, mean: np.ndarray | None, short_side_px: int
) -> tuple[list[Path], np.ndarray]:
    """The photos that can be read and their features (n, d); each of the others is named on stderr."""
    read, features = [], []
    for start in tqdm(range(0, len(paths), BATCH), desc="photos", mininterval=1):
        images = []
        for path in paths[start : start + BATCH]:
            try:
                images.append(encoder.preprocess(read_photo(path, short_side_px)))
                read.append(path)
            except InputError as error:
                tqdm.write(f"skipped: {error}", file=sys.stderr)
        if images:
            features.append(center(encoder.encode(torch.stack(images)), mean))
    return read, np.concatenate(features) if features else np.empty((0, encoder.width), np.float32)


def find(features: np.ndarray, release: Path, top_k: int) -> TopPlaces:
    """The most probable places of a release's gallery for photos by their features (n, d)."""
    model = load_release(release).to("cuda" if torch.cuda.is_available() else "cpu")
    gallery = read_gallery(release / GALLERY)
    path = cache_file(cache_folder(), release)
    embeddings = kept(path, len(gallery[0]), lambda: embed_places(model, *gallery), model.device)
    return locate(model, embed_photos(model, features), gallery, embeddings, top_k)


def show(table: pl.DataFrame, form: str) -> None:
    """Print answers as json, as csv, or as a table for a person who asks about one photo."""
    if form == "json":
        sys.stdout.write(to_json(table) + "\n")
    elif form == "csv":
        sys.stdout.write(table.write_csv())
    else:
        show_table(table["photo"][0], ("rank", "probability", "latitude", "longitude", "near"), to_rows(table))


def write_map(table: pl.DataFrame, coastlines: pl.DataFrame, path: Path) -> None:
    """Write a map picture, in the format that the path's suffix names."""
    # Here, because only a map needs matplotlib, which takes a second to load.
    from stages.figures import picture
    from stages.predict.figures import draw_many, draw_one

    draw = draw_one if table["photo"].n_unique() == 1 else draw_many
    with written_whole(path) as temporary:
        temporary.write_bytes(picture(draw(table, coastlines), path.suffix[1:]))


def main(
    photos: Annotated[list[Path], typer.Argument(help="Photos, and folders of them.")],
    model: Annotated[Path, typer.Option(help="A trained model's release folder.")] = Path("data/models/semivariogram"),
    top_k: Annotated[int, typer.Option(min=1, help="Places for each photo.")] = 5,
    map_file: Annotated[Path | None, typer.Option("--map", help="A map picture to write, such as out.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say where photos were taken: a table for one photo, CSV for many; a photo that can't be read is skipped."""
    if map_file and map_file.suffix not in MAP_SUFFIXES:
        raise InputError(f"--map {map_file}: a map ends in one of {', '.join(MAP_SUFFIXES)}")
    if not model.is_dir():
        raise InputError(f"{model} is missing; train it first: dvc repro train@{model.name}, or name another --model")
    params = load_params()
    source = Path("data") / params.data.source
    encoder_file = source / "features" / "encoder.json"
    if not encoder_file.exists():
        raise InputError(f"{encoder_file} is missing; it says how photos are embedded: dvc repro features")
    geography = source / "raw" / "geography"
    paths = list_photos(photos)
    read, features = embed(paths, *read_encoder(encoder_file), params.shard.short_side_px)
    if read:
        table = answer_table(read, find(features, model, top_k), read_towns(geography / "places.csv"))
        # By what was asked for, not by what could be read: a script gets the same columns every time.
        show(table, "json" if as_json else "table" if paths == photos and len(paths) == 1 else "csv")
        if map_file:
            write_map(table, pl.read_csv(geography / "coastlines.csv"), map_file)
    if len(read) < len(paths):
        raise typer.Exit(1)


if __name__ == "__main__":
    run(main)
