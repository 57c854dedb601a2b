"""Say where photos were taken: the most probable places of a trained model's gallery, as a table, CSV, JSON or map."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import torch
import typer
from tqdm import tqdm

from stages.cli import InputError, run, show_table
from stages.download.geography import COASTLINES, PLACES
from stages.evaluate.gallery import embed_places, read_gallery
from stages.evaluate.retrieval import chunked
from stages.features.encoder import Encoder, center, read_encoder
from stages.predict import cache
from stages.predict.answers import COLUMNS, answer_table, n_photos, to_json, to_rows
from stages.predict.geography import read_geography
from stages.predict.photos import list_photos, read_photo
from stages.predict.search import Gallery, find
from stages.shards import written_whole
from stages.train.model import GeoCLIP
from stages.train.release import CONFIG, GALLERY, load_release, read_config

BATCH = 64  # photos that are decoded and embedded at a time
LOT = 256  # photos that are answered at a time: to go through 5 million places takes seconds, for one photo as for all
MAP_SUFFIXES = (".png", ".svg", ".pdf")


def embed(
    paths: list[Path], encoder: Encoder, mean: np.ndarray | None, *, short_side_px: int, advance: Callable[[int], None]
) -> tuple[list[Path], np.ndarray]:
    """The photos that can be read and their features (n, d); each of the others is named on stderr.

    advance: told how many photos were done.
    """
    read, features = [], []
    for batch in chunked(paths, BATCH):
        images = []
        for path in batch:
            try:
                images.append(encoder.preprocess(read_photo(path, short_side_px)))
                read.append(path)
            except InputError as error:
                tqdm.write(f"skipped: {error}", file=sys.stderr)
        if images:
            features.append(center(encoder.encode(torch.stack(images)), mean))
        advance(len(batch))
    return read, np.concatenate(features) if features else np.empty((0, encoder.width), np.float32)


def open_encoder(release: Path, config: dict) -> Callable:
    """The function embed(paths, advance=...) for a release.

    Raises InputError if the release does not say its encoder, or if that cannot be had.
    """
    if "encoder" not in config:
        raise InputError(
            f"{release / CONFIG} has no section 'encoder', so how to embed a photo is not known: VarioCLIP's releases "
            "have one. Predict with the program that made it, for example geoclip, or train from it: train.init"
        )
    facts = config["encoder"]
    try:
        encoder, mean = read_encoder(facts)
    except InputError as error:  # it speaks of params, which a release has none of
        raise InputError(f"{release / CONFIG} names an encoder that cannot be made: {error}") from None
    # A release of before the side was noted has none: its photos stay as large as they are.
    return partial(embed, encoder=encoder, mean=mean, short_side_px=facts.get("short_side_px", 0))


def embedded(paths: list[Path], embed_lot: Callable) -> Iterator[tuple[list[Path], np.ndarray]]:
    """What embed_lot gives for each lot of photos, without the lots of which none can be read."""
    with tqdm(total=len(paths), desc="photos", mininterval=1) as bar:
        for lot in chunked(paths, LOT):
            read, features = embed_lot(lot, advance=bar.update)
            if read:
                yield read, features


def gallery_file(release: Path, config: dict) -> Path:
    """The CSV of a release's places.  Raises InputError if it is missing."""
    path = release / config.get("gallery_file", GALLERY)
    if not path.is_file():
        raise InputError(
            f"{path} is missing; a release holds the places that a photo may get, and {CONFIG} names their file in "
            "'gallery_file': copy it there, or train anew"
        )
    return path


def open_gallery(model: GeoCLIP, release: Path, file: Path) -> Gallery:
    """A release's gallery. Its embeddings are kept on disk for the next command, or else in memory for this one."""
    places = read_gallery(file)
    embed = partial(embed_places, model, *places)
    try:
        path = cache.cache_file(cache.cache_folder(), release, file)
        if not path.exists():
            cache.keep(path, len(places[0]), embed())
        kept = cache.read(path)
    except OSError as error:
        typer.echo(f"the gallery's embeddings are not kept for the next command: {error}", err=True)
        with torch.inference_mode():
            chunks = list(embed())  # 2 kB a place: it is gone through twice for each lot of photos
        return Gallery(*places, lambda: chunks)
    return Gallery(*places, partial(cache.on_device, kept, model.device))


def open_geography(config: dict, with_map: bool) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """Towns, or None and a line on stderr, and coastlines.  Raises InputError if a map is wanted and there are none."""
    source = config.get("source", "")
    raw = Path("data", source, "raw")
    towns, coastlines = read_geography(source, raw)
    if with_map and coastlines is None:
        raise InputError(f"--map: {raw / COASTLINES} is missing; it comes with the source: dvc repro download")
    if towns is None:
        typer.echo(f"places have no names, because {raw / PLACES} is missing: dvc repro download", err=True)
    return towns, coastlines


def write_map(table: pl.DataFrame, coastlines: pl.DataFrame, path: Path) -> None:
    """Write a map picture, in the format that the path's suffix names."""
    # Here, because only a map needs matplotlib, which takes a second to load.
    from stages.figures import picture
    from stages.predict.figures import draw_many, draw_one

    draw = draw_one if n_photos(table) == 1 else draw_many
    with written_whole(path) as temporary:
        temporary.write_bytes(picture(draw(table, coastlines), path.suffix[1:]))


def main(
    photos: Annotated[list[Path], typer.Argument(help="Photos, and folders of them.")],
    model: Annotated[Path, typer.Option(help="A trained model's release folder.")] = Path("data/models/semivariogram"),
    top_k: Annotated[int, typer.Option(min=1, help="Places for each photo.")] = 5,
    map_file: Annotated[Path | None, typer.Option("--map", help="A map picture to write, such as out.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say where photos were taken: a table for one photo, CSV for many; a photo that can't be read is skipped.

    A place's probability is small where neighbours look alike; "within 25 km" adds up all places around it.
    Both take for granted that the photo is of a place like those of the model's gallery.
    """
    if map_file and map_file.suffix not in MAP_SUFFIXES:
        raise InputError(f"--map {map_file}: a map ends in one of {', '.join(MAP_SUFFIXES)}")
    if not model.is_dir():
        raise InputError(f"{model} is missing; train it first: dvc repro train@{model.name}, or name another --model")
    # All that may be wrong with the release is found before the photos are embedded, which may take hours.
    config = read_config(model)
    file, (towns, coastlines) = gallery_file(model, config), open_geography(config, with_map=map_file is not None)
    paths = list_photos(photos)
    embed_lot = open_encoder(model, config)
    heads = load_release(model).to("cuda" if torch.cuda.is_available() else "cpu")
    gallery = open_gallery(heads, model, file)

    # By what was asked for, not by what could be read: a script gets the same columns every time.
    form = "json" if as_json else "table" if paths == photos and len(paths) == 1 else "csv"
    tables = []
    for read, features in embedded(paths, embed_lot):
        tables.append(answer_table(read, find(heads, features, gallery, top_k), towns))
        if form == "csv":  # at once: a run of hours that is stopped keeps these rows
            tqdm.write(tables[-1].write_csv(include_header=len(tables) == 1), end="")
            sys.stdout.flush()
    if tables:
        table = pl.concat(tables)
        if form == "json":
            sys.stdout.write(to_json(table) + "\n")
        elif form == "table":
            show_table(table["photo"][0], COLUMNS, to_rows(table))
        if map_file:
            write_map(table, coastlines, map_file)
    if sum(map(n_photos, tables)) < len(paths):
        raise typer.Exit(1)


if __name__ == "__main__":
    run(main)
