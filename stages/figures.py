"""A figure as a picture: PNG for pages, PDF for papers."""

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from stages.shards import written_whole

FILE_DPI = 160
# Neither versions nor times, so that the same figure has the same bytes.
METADATA = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
}


def picture(figure: Figure, suffix: str = "png", dpi: int = FILE_DPI) -> bytes:
    """A figure as png, pdf or svg."""
    buffer = io.BytesIO()
    # TrueType fonts in a PDF, which journals ask for; a salt, or an SVG's ids are random.
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": ""}):
        figure.savefig(buffer, format=suffix, dpi=dpi, metadata=METADATA[suffix])
    return buffer.getvalue()


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as path.png and path.pdf, each whole or not at all."""
    for suffix in ("png", "pdf"):
        with written_whole(path.with_suffix(f".{suffix}")) as temporary:
            temporary.write_bytes(picture(figure, suffix))
