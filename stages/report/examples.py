"""Which photos the page shows, and what it says beside them."""

import numpy as np
import polars as pl
from scipy.spatial import cKDTree

from stages.geo import chord_km, unit_vectors
from stages.report.content import distance, signed
from stages.report.maps import prediction_map
from stages.report.photos import figure_uri, thumbnail

NEIGHBOURHOOD_KM = 50.0
KINDS = ("hard_negative", "false_negative")


def neighbourhoods(
    latitude_deg: np.ndarray, longitude_deg: np.ndarray, country: pl.Series, n_rows: int, n_columns: int, seed: int
) -> list[np.ndarray]:
    """Rows of a contact sheet: n_rows photos of different countries, each with its nearest ones, n_columns in all.

    A photo without n_columns - 1 others within 50 km has no row, so the sheet may be shorter.  The first three: (n,).
    """
    rng = np.random.default_rng(seed)
    vectors = unit_vectors(latitude_deg, longitude_deg)
    tree = cKDTree(vectors)
    seen, sheet = set(), []
    for row in rng.permutation(len(latitude_deg)):
        if len(sheet) == n_rows:
            break
        if (name := country[int(row)]) in seen:
            continue
        chord, nearest = tree.query(vectors[row], n_columns)
        if chord_km(chord[-1] ** 2) < NEIGHBOURHOOD_KM:  # inf: there are not so many photos
            seen.add(name)
            sheet.append(nearest)
    return sheet


def one_a_drive(rows: np.ndarray, drive: np.ndarray) -> np.ndarray:
    """The first of rows (m,) of each drive, in their order: two frames of one are nearly the same photo.

    drive: (n,) int of all rows.
    """
    _, first = np.unique(drive[rows], return_index=True)
    return rows[np.sort(first)]


def extremes(error_km: np.ndarray, drive: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Rows of the n best, the n nearest the median and the n worst predictions, each of another drive; NaN is worst.

    error_km: (m,).  drive: (m,) int.  Fewer than n if there are not so many drives.
    """
    order = np.argsort(error_km, kind="stable")
    from_median = np.argsort(np.abs(np.arange(len(order)) - (len(order) - 1) / 2), kind="stable")
    best, median, worst = (one_a_drive(rows, drive)[:n] for rows in (order, order[from_median], order[::-1]))
    return {"best": best, "median": median[np.argsort(error_km[median], kind="stable")], "worst": worst}


def first_pairs(pairs: pl.DataFrame, n: int) -> dict[str, pl.DataFrame]:
    """The first n example pairs of each kind."""
    return {kind: pairs.filter(pl.col("kind") == kind).head(n) for kind in KINDS}


def pair_card(pair: dict, photos: dict[str, bytes]) -> dict:
    """What the page shows of a pair. pair: a row of example_pairs.csv; photos: JPEG bytes by id."""
    return {
        "a": thumbnail(photos[pair["id_a"]]),
        "b": thumbnail(photos[pair["id_b"]]),
        "lag": distance(pair["lag_km"]),
        "distance": f"{pair['distance']:z.3f}",
        "expected": f"{pair['expected_distance']:.3f}",
        "z": signed(pair["z"], 1),
    }


def prediction_card(prediction: dict, place: dict, photo: bytes, coastlines: pl.DataFrame) -> dict:
    """What the page shows of a prediction. prediction: a row of the predictions; place: the photo's row of places."""
    names = [place[level] for level in ("city", "region", "country") if place[level]]
    return {
        "photo": thumbnail(photo),
        "map": figure_uri(prediction_map(coastlines, prediction)),
        "error": distance(prediction["error_km"]),
        "place": ", ".join(names) or "a place without a name",
    }
