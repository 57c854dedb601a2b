"""The study's figure."""

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from stages.evaluate.metrics import THRESHOLDS_KM


def draw_differences(differences: dict[str, dict[str, tuple[float, float, float]]], base: str) -> Figure:
    """Change of each accuracy against base in points with its interval: a colour a variant, side by side a distance."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    ax = figure.add_subplot()
    width = 0.7 / len(differences)
    colours = colormaps["viridis"](np.linspace(0, 0.85, len(differences)))
    for index, (name, by_key) in enumerate(differences.items()):
        value, low, high = 100 * np.array([by_key[key] for key in THRESHOLDS_KM]).T
        x = np.arange(len(THRESHOLDS_KM)) + (index - (len(differences) - 1) / 2) * width
        ax.errorbar(
            x, value, yerr=(value - low, high - value), fmt="o", ms=5, capsize=2, color=colours[index], label=name
        )
    ax.axhline(0, color="0.6", lw=1, zorder=0)
    ax.set_xticks(range(len(THRESHOLDS_KM)), [f"{km:,.0f} km" for km in THRESHOLDS_KM.values()])
    ax.set(xlabel="within", ylabel=f"accuracy minus {base}'s (points)")
    ax.legend(frameon=False, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    return figure
