"""Photos and figures for the page: photos found in the shards by id and shrunk, both put into the page itself."""

import base64
import io
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq
from matplotlib.figure import Figure
from PIL import Image

from stages.figures import picture
from stages.shards import SPLITS, list_shards

HEIGHT_PX = 120
JPEG_QUALITY = 80
PAGE_DPI = 110


def read_photos(shards: Path, ids: Iterable[str]) -> dict[str, bytes]:
    """JPEG bytes by id of the photos with these ids; only the row groups that hold one of them are read."""
    wanted, found = set(ids), {}
    for split in SPLITS:
        for path in list_shards(shards / split, ".parquet"):
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    here = file.read_row_group(group, ["id"])["id"].to_pylist()
                    if wanted.isdisjoint(here):
                        continue
                    images = file.read_row_group(group, ["image"])["image"]
                    found |= {i: images[row].as_py() for row, i in enumerate(here) if i in wanted}
    return found


def thumbnail(image: bytes) -> str:
    """A photo as a data URI, at most 120 px high."""
    with Image.open(io.BytesIO(image)) as photo:
        width = max(1, round(photo.width * HEIGHT_PX / photo.height))
        small = photo.convert("RGB")
        if photo.height > HEIGHT_PX:
            small = small.resize((width, HEIGHT_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return data_uri(buffer.getvalue(), "image/jpeg")


def data_uri(data: bytes, media_type: str) -> str:
    """Bytes as a data URI, so that a page needs no other file."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def figure_uri(figure: Figure) -> str:
    """A figure as a data URI."""
    return data_uri(picture(figure, dpi=PAGE_DPI), "image/png")
