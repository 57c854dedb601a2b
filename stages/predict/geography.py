"""The towns and coastlines of the Earth, or of the world that a model was trained on."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from stages.download.geography import COASTLINES, PLACES, add_geography
from stages.evaluate.geocode import read_towns

OF_THE_EARTH = ("hub", "mirror")  # sources of real photos


def read_geography(source: str, raw: Path) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """Towns and coastlines, each None if there is no file of them.

    source: the data.source that a model was trained on.  raw: the folder where its download stage leaves the files.
    What is missing of the Earth's comes with this package, so a model of real photos has names and maps anywhere.
    """
    with TemporaryDirectory() as earth:
        if source in OF_THE_EARTH and not all((raw / name).exists() for name in (PLACES, COASTLINES)):
            add_geography(Path(earth))
        towns, coastlines = (_first((raw / name, Path(earth, name))) for name in (PLACES, COASTLINES))
        return towns and read_towns(towns), coastlines and pl.read_csv(coastlines)


def _first(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.exists()), None)
