"""A semivariogram of its own for each group of photos, such as a country: where looks change faster with distance."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from tqdm import tqdm

from stages.variogram.choose import MIN_LAGS
from stages.variogram.empirical import EmpiricalSemivariogram
from stages.variogram.fit import fit
from stages.variogram.least_squares import MIN_PAIRS
from stages.variogram.models import Semivariogram

MIN_PHOTOS = 100  # of a group: some 5,000 pairs over all lags
BAND_DEG = 30


@dataclass(frozen=True)
class Group:
    """Photos that share a value, their semivariogram, and the model fitted to it."""

    name: str
    n_photos: int
    empirical: EmpiricalSemivariogram
    model: Semivariogram

    @property
    def range_km(self) -> float | None:
        """Practical range, None where it is not within the lags fitted on."""
        range_km = self.model.range_km
        return range_km if range_km is not None and range_km <= self.model.lag_km[-1] else None

    @property
    def range_se_km(self) -> float | None:
        """Standard error of the range, None where there is none."""
        return None if self.range_km is None else self.model.standard_errors["range_km"]


def latitude_bands(latitude_deg: np.ndarray) -> list[str]:
    """Name of the 30-degree band of each latitude (n,), its southern edge first and within it."""

    def degrees(edge: int) -> str:
        return f"{abs(edge)}°" + ("N" if edge > 0 else "S" if edge < 0 else "")

    last = 90 // BAND_DEG - 1  # the north pole lies on the edge of a band that is not there
    south = BAND_DEG * np.minimum(np.floor(latitude_deg / BAND_DEG), last).astype(int)
    return [f"{degrees(edge)} to {degrees(edge + BAND_DEG)}" for edge in south.tolist()]


# Group of each photo, None for none, by the value of variogram.groups.
GROUPINGS: dict[str, Callable[[pl.DataFrame], list[str | None]]] = {
    "country": lambda places: places["country"].to_list(),
    "latitude": lambda places: latitude_bands(places["latitude"].to_numpy()),
}


def rows_by_group(labels: list[str | None]) -> dict[str, np.ndarray]:
    """Rows of each group, the largest group first; rows without one are in none."""
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        if label is not None:
            rows.setdefault(label, []).append(row)
    return {name: np.array(rows[name]) for name in sorted(rows, key=lambda name: (-len(rows[name]), name))}


def fit_groups(
    labels: list[str | None], estimate_photos: Callable[[np.ndarray], EmpiricalSemivariogram], names: list[str]
) -> tuple[list[Group], list[str]]:
    """The groups that are large enough, the largest first, and warnings of what is left out.

    labels: group of each photo, None for none. estimate_photos: rows (m,) -> their semivariogram. names: of models.
    """
    groups, left_out, rows_of = [], [], rows_by_group(labels)
    for name, rows in tqdm(rows_of.items(), "groups", unit="group", mininterval=1, leave=False):
        empirical = estimate_photos(rows) if len(rows) >= MIN_PHOTOS else None
        if empirical is None or (empirical.n_pairs >= MIN_PAIRS).sum() < MIN_LAGS:
            left_out.append(name)
        else:
            groups.append(Group(name, len(rows), empirical, fit(empirical, names)))
    warnings = []
    if left_out:
        named = ", ".join(left_out[:5]) + (", …" if len(left_out) > 5 else "")
        warnings.append(
            f"{len(left_out)} of {len(rows_of)} groups ({named}) have fewer than {MIN_PHOTOS} photos, or fewer than "
            f"{MIN_LAGS} lag bins with {MIN_PAIRS} pairs, and are left out"
        )
    if None in labels:
        warnings.append(f"{labels.count(None):,} of {len(labels):,} photos belong to no group")
    return groups, warnings


def note(group: Group, whole: Group) -> str:
    """What the group's range must not be taken for."""
    reach_km = group.model.lag_km[-1]
    if group.model.name == "nugget":
        return "no spatial structure"
    if group.range_km is None:
        return f"range not reached within {reach_km:,.0f} km"
    notes = []
    if group.range_se_km is not None and group.range_se_km > group.range_km / 2:  # two errors reach 0
        notes.append("range is uncertain")
    if whole.range_km is not None and reach_km < whole.range_km:
        notes.append(f"lags end at {reach_km:,.0f} km, before the range of all photos")
    return "; ".join(notes)


def groups_table(groups: list[Group], whole: Group) -> pl.DataFrame:
    """A row for all photos, then one for each group. Null: a range that is not reached, its error, a line's sill."""
    rows = []
    for group in [whole, *groups]:
        model = group.model
        rows.append(
            {
                "group": group.name,
                "photos": group.n_photos,
                "pairs": int(group.empirical.n_pairs.sum()),
                "model": model.name,
                "nugget": model.nugget,
                "sill": None if model.name == "linear" else model.sill,
                "range_km": group.range_km,
                "range_se_km": group.range_se_km,
                "largest_lag_km": float(model.lag_km[-1]),
                "note": note(group, whole),
            }
        )
    numbers = dict.fromkeys(("nugget", "sill", "range_km", "range_se_km", "largest_lag_km"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=numbers)
