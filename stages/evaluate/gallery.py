"""A gallery of places: read from a CSV, sampled, embedded chunk by chunk, and searched by a model for photos."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor
from tqdm import tqdm

from stages.cli import InputError
from stages.evaluate.retrieval import GALLERY_CHUNK, chunked, retrieve
from stages.train.model import GeoCLIP

PHOTO_CHUNK = 8192  # photos whose features are read and embedded at a time


@dataclass(frozen=True)
class TopPlaces:
    """The k best places of n photos, best first, in degrees; probability is None where an answer has none.

    A photo with fewer places has NaN in the last columns.
    """

    latitude: np.ndarray  # (n, k) float64
    longitude: np.ndarray  # (n, k) float64
    probability: np.ndarray | None  # (n, k)


def joined(parts: Sequence[TopPlaces]) -> TopPlaces:
    """The answers of several lots of photos as one; each has the same k."""
    columns = ([getattr(part, name) for part in parts] for name in ("latitude", "longitude", "probability"))
    return TopPlaces(*(None if column[0] is None else np.concatenate(column) for column in columns))


def read_gallery(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes of the different places of a CSV with the columns LAT and LON, in degrees and its order.

    The case of the header does not matter, nor do rows that are wholly empty.  Returns two (g,) float64, g >= 1.
    Raises InputError if the file or a column is missing, it is no CSV in UTF-8, a row is no place on Earth, or there is
    no row.
    """
    if not path.is_file():
        raise InputError(f"gallery {path} is missing; evaluate.gallery is 'train' or a CSV with the columns LAT,LON")
    text = _read_text(path)
    places = text.select("row", pl.col("LAT", "LON").str.strip_chars().cast(pl.Float64, strict=False))
    if places.is_empty():
        raise InputError(f"{path} holds no place; a gallery needs at least one row below LAT,LON")
    for column, limit in (("LAT", 90), ("LON", 180)):
        # not >= or <=: a comparison with NaN is false, and a word became null.
        is_wrong = ~(places[column].abs() <= limit).fill_null(False) | places[column].is_nan().fill_null(True)
        if is_wrong.any():
            first = int(is_wrong.arg_max())
            raise InputError(
                f"{column} {text[column][first]} in row {text['row'][first]} of {path} is not a number in "
                f"[-{limit}, {limit}]; is the column order LAT,LON and the unit degrees?"
            )
    # A place that stands there twice would fill two of the best places, each with half of the probability.
    places = places.unique(["LAT", "LON"], keep="first", maintain_order=True)
    return places["LAT"].to_numpy(), places["LON"].to_numpy()


def _read_text(path: Path) -> pl.DataFrame:
    """The cells LAT and LON, as text, and row, from 1, of the rows of a CSV that are not wholly empty."""
    try:
        text = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"{path} can't be read ({str(error).splitlines()[0]}); a gallery is a CSV in UTF-8 with LAT,LON in its "
            "first line and as many cells in every row: save it as one"
        ) from None
    columns = {name.strip().upper(): name for name in reversed(text.columns)}  # of two alike the first
    if not {"LAT", "LON"} <= columns.keys():
        raise InputError(f"{path} has the columns {','.join(text.columns)}; a gallery has LAT,LON in its first line")
    is_empty = text.select(pl.all_horizontal((pl.all().str.strip_chars() == "").fill_null(True))).to_series()
    cells = {column: pl.col(columns[column]) for column in ("LAT", "LON")}
    return text.select(**cells, row=pl.int_range(1, pl.len() + 1)).filter(~is_empty)


def sample(gallery: tuple[np.ndarray, np.ndarray], size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Size places drawn from a gallery without replacement, in its order; all of it for size 0 or at least its own."""
    latitude_deg, longitude_deg = gallery
    if not 0 < size < len(latitude_deg):
        return gallery
    rows = np.sort(np.random.default_rng(seed).choice(len(latitude_deg), size, replace=False))
    return latitude_deg[rows], longitude_deg[rows]


def embed_places(model: GeoCLIP, latitude_deg: np.ndarray, longitude_deg: np.ndarray) -> Iterator[Tensor]:
    """Embeddings of places in their order, in chunks (c, e) on the model's device. Both (g,).

    Raises InputError if an embedding is not a number.
    """
    for start in tqdm(range(0, len(latitude_deg), GALLERY_CHUNK), desc="gallery", mininterval=1):
        chunk = slice(start, start + GALLERY_CHUNK)
        angles = (torch.tensor(angle[chunk], device=model.device) for angle in (latitude_deg, longitude_deg))
        yield _finite(model.place_embedding(*angles))


@torch.inference_mode()
def embed_photos(model: GeoCLIP, features: Sequence) -> Tensor:
    """Embeddings (n, e) of photos by their frozen features, on the model's device.

    features: (n, d) float16 or float32 array or rows on disk.  Raises InputError if the model takes another width, or
    if an embedding is not a number.
    """
    width = model.image_encoder.mlp[0].in_features
    if features.shape[1] != width:
        raise InputError(
            f"the features are {features.shape[1]} wide, the model takes {width}; it was trained on another encoder: "
            "set features.model back, or train anew: dvc repro train"
        )
    chunks = (torch.from_numpy(rows.astype(np.float32)) for rows in chunked(features, PHOTO_CHUNK))
    return _finite(torch.cat([model.image_embedding(chunk.to(model.device)) for chunk in chunks]))


def _finite(embeddings: Tensor) -> Tensor:
    """The embeddings (n, e) themselves. Raises InputError if one is not a number: it would win or lose every search."""
    if not embeddings.isfinite().all():
        raise InputError(
            "the model's embeddings hold NaN or infinity, its training diverged; lower train.learning_rate"
        )
    return embeddings


@torch.inference_mode()
def locate(
    model: GeoCLIP, queries: Tensor, gallery: tuple[np.ndarray, np.ndarray], embeddings: Iterable[Tensor], k: int
) -> TopPlaces:
    """The k most similar places of a gallery for each photo, by softmax of the model's logits over the whole gallery.

    queries: (n, e) embeddings of photos.  gallery: latitudes and longitudes (g,).  embeddings: theirs, in chunks.
    """
    scale = float(model.logit_scale.exp())
    found = retrieve(queries, embeddings, k, scale=scale)
    row = found.row.cpu().numpy()
    return TopPlaces(gallery[0][row], gallery[1][row], found.probability(scale).cpu().numpy())
