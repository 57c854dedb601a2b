"""What the page says in words and tables, from what the stages wrote: pure functions over tables and metrics."""

from collections.abc import Callable

import numpy as np
import polars as pl
from scipy.spatial import cKDTree

from stages.evaluate.breakdown import by_density, by_group, density
from stages.evaluate.choice import SOURCES, in_words
from stages.evaluate.metrics import THRESHOLDS_KM, paired_difference
from stages.geo import chord_km, unit_vectors
from stages.params import REFINED
from stages.variogram.models import Semivariogram

BASELINE_LOSS = "infonce"
IMAGE_KNN = "image_knn"
LABELS = {
    "infonce": "GeoCLIP (infonce)",
    "semivariogram": "semivariogram",
    "residual_scaling": "residual scaling",
    "distance_soft": "distance soft targets",
    "hard_negative": "hard negatives",
    "image_knn": "image k-NN, no training",
    "most_frequent": "most frequent place",
    "best_possible": "best possible answer",
}
DISTANCES = {key: f"{km:,.0f} km" for key, km in THRESHOLDS_KM.items()}
AREAS = {f"accuracy_{level}": level.replace("_", "-") for level in ("country", "region", "sub_region", "city")}
DENSITY_LABELS = {0: "none", 1: "1 to 9", 10: "10 to 99", 100: "100 to 999", 1000: "1,000 and more"}

# Chen et al. (2025), table 1, on OSV5M's test photos; per cent.
PAPER_ROWS = [
    ("GeoCLIP, in the paper", {"accuracy_25km": 19.8, "accuracy_200km": 50.1}),
    ("the paper's loss", {"accuracy_25km": 21.5, "accuracy_200km": 52.1, "accuracy_750km": 72.1}),
    ("RFM S2, in the paper", {"accuracy_750km": 76.2}),
]


def label(name: str) -> str:
    """A loss, refined answer or baseline in words."""
    loss = name.removesuffix(REFINED)
    return LABELS[name] if loss == name else f"{LABELS[loss]}, refined"


def percent(share: float | None) -> str:
    """A share as per cent with one decimal; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}"


def signed(value: float, decimals: int) -> str:
    """A number with its sign, a true minus; without one if it rounds to 0."""
    text = f"{value:+z,.{decimals}f}".replace("-", "−")
    return text if any(digit in text for digit in "123456789") else text.removeprefix("+")


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return signed(100 * difference, 1)


def signed_km(km: float) -> str:
    """A difference of distances in km, with its sign; small ones with a decimal."""
    return signed(km, 0 if abs(km) >= 9.95 else 1)


def distance(km: float) -> str:
    """A distance in words, in m below 1 km."""
    return f"{km:,.0f} km" if km >= 9.95 else f"{km:.1f} km" if km >= 0.9995 else f"{1000 * km:.0f} m"


def nearest_km(places: pl.DataFrame, gallery: pl.DataFrame) -> np.ndarray:
    """Great-circle distance (n,) of n places to the nearest of a gallery: the least error that its search can make."""
    vectors, others = (
        unit_vectors(table["latitude"].to_numpy(), table["longitude"].to_numpy()) for table in (places, gallery)
    )
    chord, _ = cKDTree(others).query(vectors)
    return chord_km(chord**2)


def results(metrics: dict[str, dict], keys: dict[str, str]) -> list[dict]:
    """Rows of a results table: a name, and for each key its value and its interval in words."""
    rows = []
    for name, values in metrics.items():
        cells = [
            {
                "value": percent(values.get(key)),
                "low": percent(values.get(f"{key}_low")),
                "high": percent(values.get(f"{key}_high")),
            }
            for key in keys
        ]
        rows.append(
            {
                "name": name,
                "label": label(name),
                "cells": cells,
                "median_error": distance(values["median_error_km"]),
                "geoscore": f"{values['geoscore']:,.0f}",
            }
        )
    return rows


def comparisons(
    errors_km: dict[str, np.ndarray], answers: list[str], drive: np.ndarray, *, n_bootstrap: int, seed: int
) -> dict[str, dict]:
    """Paired differences of each answer against infonce: {name: {key: (difference, low, high)}}; {} without infonce.

    errors_km: (n,) of every name, the same photos in the same order.  drive: (n,) int, theirs.
    """
    if BASELINE_LOSS not in answers:
        return {}
    base = errors_km[BASELINE_LOSS]
    others = [name for name in answers if name != BASELINE_LOSS]
    resampling = {"n_bootstrap": n_bootstrap, "seed": seed}
    return {name: paired_difference(errors_km[name], base, drive, **resampling) for name in others}


def refinements(
    metrics: dict[str, dict], errors_km: dict[str, np.ndarray], drive: np.ndarray, *, n_bootstrap: int, seed: int
) -> list[tuple[str, str]]:
    """Each refined answer's label, and in words how it was made and what it adds, on the test photos, to its sources.

    drive: (n,) int, of the test photos.
    """
    rows = []
    for name in (name for name in metrics if name.endswith(REFINED)):
        text = in_words(metrics[name])
        for source in (name.removesuffix(REFINED), IMAGE_KNN):
            if metrics[name]["refined_by"] in SOURCES:  # its answer is one of theirs
                continue
            change = paired_difference(errors_km[name], errors_km[source], drive, n_bootstrap=n_bootstrap, seed=seed)
            gains = ((DISTANCES[key], *map(points, change[key])) for key in DISTANCES)
            parts = (f"{gain} [{low}, {high}] within {within}" for within, gain, low, high in gains)
            text += f" On the test photos, in points against {label(source)} alone: {', '.join(parts)}."
        rows.append((label(name), text))
    return rows


def is_sure(low: float, high: float) -> bool:
    """Whether an interval leaves out 0."""
    return low > 0 or high < 0


def difference_rows(differences: dict[str, dict]) -> list[dict]:
    """Rows of the table of differences: accuracies in points, then the median error in km."""
    rows = []
    for loss, by_key in differences.items():
        cells = [
            {"value": points(d), "low": points(low), "high": points(high), "is_sure": is_sure(low, high)}
            for d, low, high in (by_key[key] for key in DISTANCES)
        ]
        d, low, high = by_key["median_error_km"]
        texts = {"value": f"{signed_km(d)} km", "low": signed_km(low), "high": signed_km(high)}
        rows.append({"name": loss, "label": label(loss), "cells": [*cells, texts | {"is_sure": is_sure(low, high)}]})
    return rows


def finding(metrics: dict[str, dict], differences: dict[str, dict]) -> str:
    """The run's main result in two sentences."""
    if "semivariogram" not in differences:
        best = max(metrics, key=lambda name: metrics[name]["accuracy_25km"])
        share = percent(metrics[best]["accuracy_25km"])
        return f"On this run, {label(best)} places most photos within 25 km: {share} %."
    parts, n_sure = [], 0
    for key, within in (("accuracy_25km", "25 km"), ("accuracy_200km", "200 km")):
        ours, theirs = (percent(metrics[name][key]) for name in ("semivariogram", BASELINE_LOSS))
        difference, low, high = differences["semivariogram"][key]
        gain = f"{points(difference)} points, 95 % interval {points(low)} to {points(high)}"
        parts.append(f"{ours} % of the test photos within {within}, GeoCLIP's own loss {theirs} % ({gain})")
        n_sure += is_sure(low, high)
    verdict = ("Neither interval leaves out zero: on this run the two cannot be told apart.",
               "Only one of the two intervals leaves out zero.",
               "Both intervals leave out zero.")[n_sure]  # fmt: skip
    return f"The semivariogram loss places {parts[0]}; and {parts[1]}. {verdict}"


def paper_rows() -> list[tuple[str, list[str]]]:
    """The paper's results by distance, a dash where it gives none."""
    return [
        (label, [f"{values[key]:.1f}" if key in values else "–" for key in DISTANCES]) for label, values in PAPER_ROWS
    ]


def density_rows(places: dict[str, pl.DataFrame], error_km: np.ndarray) -> list[dict]:
    """Accuracies by the number of training places near a test photo. error_km: (n,), in the order of places["test"]."""
    axes = (places[split][axis].to_numpy() for split in ("test", "train") for axis in ("latitude", "longitude"))
    return _group_rows(by_density(density(*axes), error_km), DENSITY_LABELS.get)


def country_rows(country: pl.Series, error_km: np.ndarray) -> list[dict]:
    """Accuracies by country, the one with the most test photos first. Both (n,)."""
    return _group_rows(by_group(country, error_km), str)


def _group_rows(groups: pl.DataFrame, label_of: Callable[[object], str]) -> list[dict]:
    return [
        {
            "label": label_of(row["group"]),
            "count": row["count"],
            "cells": [percent(row[key]) for key in DISTANCES],
            "median_error": distance(row["median_error_km"]),
        }
        for row in groups.iter_rows(named=True)
    ]


def count_reasons(rejected: pl.DataFrame) -> list[tuple[str, int]]:
    """Reasons why photos were left out and how many each, the most frequent first."""
    return rejected.group_by("reason").len().sort("len", "reason", descending=[True, False]).rows()


def about(n_test: int, source: str, encoder: dict) -> str:
    """What a table of results was measured on."""
    name = f"`{encoder['model']}` ({encoder['pretrained']})"
    return f"{n_test:,} test photos of the source `{source}`; encoder {name}; 95 % intervals, over drives."


def facts(
    sections: dict[str, dict], encoder: dict, training: dict[str, dict], model: Semivariogram
) -> list[tuple[str, str]]:
    """What ran, for the end of the page; how long it took stands beside it, as the same run must make the same page.

    sections: the params of the other stages, by what to call them.  training: by loss, the params of its training,
    among them a dict of the loss's own under its name.
    """
    first = next(iter(training.values()))
    shared = {key: value for key, value in first.items() if not isinstance(value, dict) and key != "loss"}
    fit = f"weighted RMSE {model.weighted_rmse:.4f}, R² {model.r2:z.3f}".replace("-", "−")
    return [
        ("encoder", f"{encoder['model']}, weights {encoder['pretrained']}, {encoder['width']} numbers a photo"),
        ("semivariogram", f"{model.name}, {fit}, {model.n_pairs.sum():,} pairs"),
        *((name, _params(values)) for name, values in sections.items()),
        ("training", _params(shared)),
        *((f"loss {loss}", _params(p.get(loss, {})) or "no params") for loss, p in training.items()),
    ]


def _params(values: dict) -> str:
    return ", ".join(f"{key} {_in_words(value)}" for key, value in values.items())


def _in_words(value: object) -> str:
    """A param as params.yaml has it: 0.000001, not 1e-06."""
    if isinstance(value, dict):
        return f"({_params(value)})"
    if isinstance(value, list):
        return " ".join(_in_words(item) for item in value) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return np.format_float_positional(value, trim="-") if isinstance(value, float) else str(value)


def markdown_table(metrics: dict[str, dict], differences: dict[str, dict], about: str) -> str:
    """The results as Markdown, for a README."""
    lines = [
        f"| within | {' | '.join(DISTANCES.values())} | median error |",
        f"|---|{'---:|' * (len(DISTANCES) + 1)}",
    ]
    for row in results(metrics, DISTANCES):
        cells = (f"{cell['value']} % [{cell['low']}, {cell['high']}]" for cell in row["cells"])
        lines.append(f"| {row['label']} | {' | '.join(cells)} | {row['median_error']} |")
    for row in difference_rows(differences):
        cells = (f"{cell['value']} [{cell['low']}, {cell['high']}]" for cell in row["cells"])
        lines.append(f"| *{row['label']} − infonce, points* | {' | '.join(cells)} |")
    return "\n".join([*lines, "", about, ""])
