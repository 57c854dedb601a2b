"""How strongly the photo's appearance refines the model's answer, chosen on the validation photos."""

import math
from dataclasses import dataclass

import numpy as np

from stages.evaluate.metrics import THRESHOLDS_KM

STRENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)  # nats per unit of cosine similarity
SOURCES = ("model", "image_knn")
SURE_ERRORS = 2.0  # standard errors


@dataclass(frozen=True)
class Setting:
    """Score of a place: log-probability by the model + strength · similarity to its appearance.

    Strength 0 is the model alone, an infinite one the image k-NN alone.
    """

    strength: float
    appearance: str  # of the place: "nearest" training photo, or "kriged"


MODEL, IMAGE_KNN = Setting(0.0, "nearest"), Setting(math.inf, "nearest")
SETTINGS = (MODEL, IMAGE_KNN, *(Setting(s, a) for a in ("nearest", "kriged") for s in STRENGTHS))


def worth(error_km: np.ndarray) -> np.ndarray:
    """Share of the five distances that each photo was placed within. error_km: (n,). Returns (n,), in [0, 1]."""
    return np.mean([error_km <= km for km in THRESHOLDS_KM.values()], axis=0)


def choose(errors_km: dict[Setting, np.ndarray], drive: np.ndarray) -> Setting:
    """The setting with the greatest mean worth, if it is surely greater than that of the better source; else that.

    errors_km: (n,) by setting, n >= 1, the same photos in the same order, MODEL and IMAGE_KNN among them.  drive: (n,)
    int, theirs.  Of equals the first is taken.  Sure is a mean gain of more than SURE_ERRORS of its standard errors:
    the best of many settings looks better on the photos it was chosen by than it is, and without this it often is no
    better on others.  Photos of one drive count as one observation: source, Liang & Zeger (1986), eq. 6.
    """
    worths = {setting: worth(error_km) for setting, error_km in errors_km.items()}
    source = max((MODEL, IMAGE_KNN), key=lambda setting: worths[setting].mean())
    best = max(worths, key=lambda setting: worths[setting].mean())
    gain = worths[best] - worths[source]
    by_drive = np.bincount(drive, gain - gain.mean())
    error = math.sqrt((by_drive**2).sum()) / len(gain)
    return best if gain.mean() > SURE_ERRORS * error else source


def describe(chosen: Setting, errors_km: dict[Setting, np.ndarray]) -> dict[str, float | int | str]:
    """The choice and what it was made by, flat: the accuracies of both sources and of the chosen on the validation."""
    facts = {
        "refined_by": {MODEL: "model", IMAGE_KNN: "image_knn"}.get(chosen, chosen.appearance),
        # JSON has no infinity.
        "refined_strength": chosen.strength if math.isfinite(chosen.strength) else "infinite",
        "validation_count": len(errors_km[chosen]),
    }
    for name, setting in (*zip(SOURCES, (MODEL, IMAGE_KNN), strict=True), ("refined", chosen)):
        error_km = errors_km[setting]
        facts |= {f"validation_{name}_{key}": float((error_km <= km).mean()) for key, km in THRESHOLDS_KM.items()}
        facts[f"validation_{name}_accuracy_mean"] = float(worth(error_km).mean())
    return facts


def in_words(facts: dict) -> str:
    """How the answer was refined, and where it is worse than the better source on the photos it was chosen by.

    facts: what describe returned.
    """
    photos = f"{facts['validation_count']:,} validation photos"
    names = {"model": "the model", "image_knn": "the image k-NN"}
    if facts["refined_by"] in names:
        source = names[facts["refined_by"]]
        text = f"No strength was surely better than {source} alone on {photos}, so this is the answer of {source}."
    else:
        text = (
            f"By the {facts['refined_by']} appearance with strength {facts['refined_strength']:g}, chosen on {photos}."
        )
    worse = []
    for key, km in THRESHOLDS_KM.items():
        refined, *sources = (100 * facts[f"validation_{name}_{key}"] for name in ("refined", *SOURCES))
        if refined < max(sources):
            worse.append(f"{km:,.0f} km ({refined:.1f} against {max(sources):.1f} %)")
    return text + (
        f" On them it is worse than the better of its two sources within {', '.join(worse)}." if worse else ""
    )
