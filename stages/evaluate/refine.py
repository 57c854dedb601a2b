"""A second answer: the best places of the model and of the image k-NN, weighed by how alike the photo is to each."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from stages.evaluate.baselines import image_knn
from stages.evaluate.choice import Setting
from stages.evaluate.gallery import TopPlaces, embed_photos, embed_places
from stages.evaluate.kriging import Training, similarities
from stages.evaluate.retrieval import chunked, retrieve
from stages.geo import great_circle_km
from stages.train.model import GeoCLIP
from stages.variogram.models import Semivariogram

CANDIDATES = 64  # of each source
_PHOTO_CHUNK = 512  # photos whose candidates are scored at a time


@dataclass(frozen=True)
class Candidates:
    """Places that may be the answer for n photos: the model's best, then the image k-NN's best, each best first."""

    latitude: np.ndarray  # (n, c) degrees
    longitude: np.ndarray  # (n, c) degrees
    n_by_model: int  # of the c
    in_gallery: np.ndarray  # (n, c) bool
    log_probability: np.ndarray  # (n, c) float32, by the model, over its gallery: beside it, it may exceed 0
    similarity: dict[str, np.ndarray]  # by appearance, (n, c) float32


@torch.inference_mode()
def find_candidates(
    model: GeoCLIP,
    lots: Sequence[Sequence],
    gallery: tuple[np.ndarray, np.ndarray],
    training: Training,
    training_places: tuple[np.ndarray, np.ndarray],
    semivariogram: Semivariogram,
    k: int = CANDIDATES,
) -> list[Iterator[Candidates]]:
    """Per lot of photos their candidates, in their order, 512 photos at a time: k places of each source, or all it has.

    lots: features (n, d) each.  gallery: latitudes and longitudes (g,) that the model searches.  training_places: those
    (t,) of the training photos.  The k-NN's places need not be in the gallery.  Gallery and training features are gone
    through once for all lots.
    """
    scale, queries = float(model.logit_scale.exp()), torch.cat([embed_photos(model, features) for features in lots])
    found = retrieve(queries, embed_places(model, *gallery), k, scale=scale)
    photos = torch.cat([torch.from_numpy(features[:].astype(np.float32)) for features in lots]).to(model.device)
    training_row, training_similarity = image_knn(photos, training.features, k)
    is_known = np.isin(_complex(*training_places), _complex(*gallery))

    @torch.inference_mode()
    def of_lot(lot: np.ndarray) -> Iterator[Candidates]:
        for rows in tqdm(list(chunked(lot, _PHOTO_CHUNK)), desc="candidates", mininterval=1):
            by_model, by_image = found.row[rows].cpu().numpy(), training_row[rows]
            latitude, longitude = (
                np.concatenate([of_gallery[by_model], of_training[by_image]], axis=1)
                for of_gallery, of_training in zip(gallery, training_places, strict=True)
            )
            in_gallery = np.concatenate([np.ones(by_model.shape, bool), is_known[by_image]], axis=1)
            cosine = torch.cat([found.similarity[rows], cosines(queries[rows], by_image)], dim=1)
            log_probability = scale * cosine - found.log_normalizer[rows, None]
            similarity = similarities(photos[rows].cpu().numpy(), latitude, longitude, training, semivariogram)
            # The k-NN's own number: a place with more photos than neighbours looked at may hide the one that was found.
            n_by_model = by_model.shape[1]
            similarity["nearest"][:, n_by_model:] = training_similarity[rows]
            yield Candidates(latitude, longitude, n_by_model, in_gallery, log_probability.cpu().numpy(), similarity)

    def cosines(of_photo: torch.Tensor, row: np.ndarray) -> torch.Tensor:
        """Of photos' embeddings (n, e) to those of training places, row: (n, k). Returns (n, k)."""
        unique, inverse = np.unique(row, return_inverse=True)
        angles = (torch.from_numpy(angle[unique]).to(model.device) for angle in training_places)
        embedding = model.place_embedding(*angles)[torch.from_numpy(inverse.reshape(row.shape)).to(model.device)]
        return torch.einsum("ne,nke->nk", of_photo, embedding)

    ends = np.cumsum([len(features) for features in lots])
    return [of_lot(rows) for rows in np.split(np.arange(len(queries)), ends[:-1])]


def score(candidates: Candidates, setting: Setting) -> np.ndarray:
    """Score (n, c) float64 of each candidate; -inf for those that a source alone does not name."""
    is_by_model = np.arange(candidates.latitude.shape[1]) < candidates.n_by_model
    if setting.strength == 0:
        return np.where(is_by_model, candidates.log_probability.astype(np.float64), -np.inf)
    similarity = candidates.similarity[setting.appearance].astype(np.float64)
    if math.isinf(setting.strength):
        return np.where(is_by_model, -np.inf, similarity)
    return candidates.log_probability + setting.strength * similarity


def best_error_km(
    candidates: Candidates, setting: Setting, latitude_deg: np.ndarray, longitude_deg: np.ndarray
) -> np.ndarray:
    """Error (n,) in km of the best candidate; latitude_deg, longitude_deg: the true places (n,)."""
    best = score(candidates, setting).argmax(axis=1)[:, None]
    places = (np.take_along_axis(angle, best, axis=1)[:, 0] for angle in (candidates.latitude, candidates.longitude))
    return great_circle_km(latitude_deg, longitude_deg, *places)


def rank(candidates: Candidates, setting: Setting, k: int) -> TopPlaces:
    """The k best different candidates of each photo; NaN at the end of the lists of a photo that has fewer.

    The probability is a softmax over the gallery and the candidates beside it: the candidates keep what the model gives
    them together, shared out anew by their scores.  The image k-NN alone has no probability.
    """
    scores = score(candidates, setting)
    order = np.argsort(-scores, axis=1, kind="stable")
    latitude, longitude, scores, log_probability, in_gallery = (
        np.take_along_axis(values, order, axis=1)
        for values in (
            candidates.latitude,
            candidates.longitude,
            scores,
            candidates.log_probability.astype(np.float64),
            candidates.in_gallery,
        )
    )
    is_out = np.isneginf(scores) | _is_repeated(latitude, longitude)
    shown = np.argsort(is_out, axis=1, kind="stable")[:, :k]
    is_missing = np.take_along_axis(is_out, shown, axis=1)
    values = [latitude, longitude]
    if math.isfinite(setting.strength):
        log_probability[is_out] = -np.inf
        log_total = np.logaddexp(0, np.logaddexp.reduce(log_probability, axis=1, where=~in_gallery, initial=-np.inf))
        # minimum: the logits are float32, so that candidates that are all there is may come to 1.000002.
        together = np.minimum(np.exp(log_probability - log_total[:, None]).sum(axis=1, keepdims=True), 1)
        share = np.where(is_out, 0, np.exp(scores - scores[:, :1]))
        values.append(together * share / share.sum(axis=1, keepdims=True))
    places = (np.where(is_missing, np.nan, np.take_along_axis(of, shown, axis=1)) for of in values)
    return TopPlaces(*places, *[None] * (3 - len(values)))


def _is_repeated(latitude_deg: np.ndarray, longitude_deg: np.ndarray) -> np.ndarray:
    """Whether each of c places of a photo stands further left too. Both (n, c). Returns (n, c) bool."""
    place = _complex(latitude_deg, longitude_deg)
    order = np.argsort(place, axis=1, kind="stable")
    ordered = np.take_along_axis(place, order, axis=1)
    is_repeated = np.zeros(place.shape, bool)
    np.put_along_axis(is_repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return is_repeated


def _complex(latitude_deg: np.ndarray, longitude_deg: np.ndarray) -> np.ndarray:
    """Places as one number each, to be sorted and compared by. Both (...). Returns (...)."""
    return latitude_deg + 1j * longitude_deg
