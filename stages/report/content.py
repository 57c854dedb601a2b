"""What the page says, from what the stages wrote: pure functions over tables and metrics."""

import numpy as np
import polars as pl

from stages.evaluate.metrics import THRESHOLDS_KM, paired_difference
from stages.geo import great_circle_km

BASELINE_LOSS = "infonce"
LABELS = {
    "infonce": "GeoCLIP (infonce)",
    "semivariogram": "semivariogram",
    "residual_scaling": "residual scaling",
    "distance_soft": "distance soft targets",
    "hard_negative": "hard negatives",
    "image_knn": "image k-NN, no training",
    "most_frequent": "most frequent place",
}
DISTANCES = {key: f"{km:,.0f} km" for key, km in THRESHOLDS_KM.items()}
AREAS = {f"accuracy_{level}": level.replace("_", "-") for level in ("country", "region", "sub_region", "city")}

# Chen et al. (2025), table 1, on OSV5M's test photos; per cent.
PAPER_ROWS = [
    ("GeoCLIP, in the paper", {"accuracy_25km": 19.8, "accuracy_200km": 50.1}),
    ("the paper's loss", {"accuracy_25km": 21.5, "accuracy_200km": 52.1, "accuracy_750km": 72.1}),
    ("RFM S2, in the paper", {"accuracy_750km": 76.2}),
]


def percent(share: float | None) -> str:
    """A share as per cent with one decimal; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}"


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def results(metrics: dict[str, dict], keys: dict[str, str]) -> list[dict]:
    """Rows of the results table: a name, and for each key its value and its interval in words."""
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
                "label": LABELS[name],
                "cells": cells,
                "median_error_km": f"{values['median_error_km']:,.0f}",
                "geoscore": f"{values['geoscore']:,.0f}",
            }
        )
    return rows


def comparisons(errors_km: dict[str, np.ndarray], losses: list[str], *, n_bootstrap: int, seed: int) -> dict[str, dict]:
    """Paired differences of each loss against infonce: {loss: {key: (difference, low, high)}}; {} without infonce.

    errors_km: (n,) of every name, the same photos in the same order.
    """
    if BASELINE_LOSS not in losses:
        return {}
    base = errors_km[BASELINE_LOSS]
    others = [loss for loss in losses if loss != BASELINE_LOSS]
    return {loss: paired_difference(errors_km[loss], base, n_bootstrap=n_bootstrap, seed=seed) for loss in others}


def finding(metrics: dict[str, dict], differences: dict[str, dict]) -> str:
    """The run's main result in two sentences."""
    if "semivariogram" not in differences:
        best = max(metrics, key=lambda name: metrics[name]["accuracy_25km"])
        return (
            f"On this run, {LABELS[best]} places most photos within 25 km: {percent(metrics[best]['accuracy_25km'])} %."
        )
    parts, sure = [], []
    for key, distance in (("accuracy_25km", "25 km"), ("accuracy_200km", "200 km")):
        ours, theirs = (percent(metrics[name][key]) for name in ("semivariogram", BASELINE_LOSS))
        difference, low, high = differences["semivariogram"][key]
        gain = f"{points(difference)} points, 95 % interval {points(low)} to {points(high)}"
        parts.append(f"{ours} % of the test photos within {distance}, GeoCLIP's own loss {theirs} % ({gain})")
        sure.append(low > 0 or high < 0)
    verdict = ("Neither interval leaves out zero: on this run the two cannot be told apart.",
               "Only one of the two intervals leaves out zero.",
               "Both intervals leave out zero.")[sum(sure)]  # fmt: skip
    return f"The semivariogram loss places {parts[0]}; and {parts[1]}. {verdict}"


def extremes(error_km: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Rows of the n best, the n around the median and the n worst predictions. error_km: (m,)."""
    order = np.argsort(error_km, kind="stable")
    n = min(n, len(order))
    middle = max(0, (len(order) - n) // 2)
    return {"best": order[:n], "median": order[middle : middle + n], "worst": order[::-1][:n]}


def neighbourhoods(
    latitude_deg: np.ndarray, longitude_deg: np.ndarray, country: pl.Series, n_rows: int, n_columns: int, seed: int
) -> list[np.ndarray]:
    """Rows of a contact sheet: n_rows places of different countries, each with its n_columns nearest photos."""
    rng = np.random.default_rng(seed)
    seen, sheet = set(), []
    for row in rng.permutation(len(latitude_deg)):
        if (name := country[int(row)]) in seen:
            continue
        lag_km = great_circle_km(latitude_deg[row], longitude_deg[row], latitude_deg, longitude_deg)
        nearest = np.argsort(lag_km, kind="stable")[:n_columns]
        if len(nearest) == n_columns and lag_km[nearest[-1]] < 50:
            seen.add(name)
            sheet.append(nearest)
        if len(sheet) == n_rows:
            break
    return sheet


def markdown_table(metrics: dict[str, dict], differences: dict[str, dict], about: str) -> str:
    """The results as Markdown, for a README."""
    lines = [
        f"| within | {' | '.join(DISTANCES.values())} | median error |",
        f"|---|{'---|' * (len(DISTANCES) + 1)}",
    ]
    for row in results(metrics, DISTANCES):
        cells = (f"{cell['value']} % [{cell['low']}, {cell['high']}]" for cell in row["cells"])
        lines.append(f"| {row['label']} | {' | '.join(cells)} | {row['median_error_km']} km |")
    for loss, by_key in differences.items():
        cells = (f"{points(d)} [{points(low)}, {points(high)}]" for d, low, high in (by_key[key] for key in DISTANCES))
        difference, low, high = by_key["median_error_km"]
        median = f"{difference:+,.0f} km [{low:+,.0f}, {high:+,.0f}]"
        lines.append(f"| *{LABELS[loss]} − infonce, points* | {' | '.join(cells)} | {median} |")
    return "\n".join([*lines, "", about, ""])
