import re

import pytest
from matplotlib.figure import Figure

from stages.figures import picture, write_figure

STARTS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def chart():
    figure = Figure()
    figure.subplots().plot([1, 2], label="a line").pop().axes.legend()
    return figure


@pytest.mark.parametrize("suffix", STARTS)
def test_the_same_figure_has_the_same_bytes_and_neither_version_nor_time(suffix):
    first, second = (picture(chart(), suffix) for _ in range(2))
    assert first == second
    assert first.startswith(STARTS[suffix])
    assert not re.search(rb"Software|Matplotlib v|Date", first)


def test_a_figure_is_a_png_and_a_pdf_with_fonts_that_can_be_edited(tmp_path):
    write_figure(chart(), tmp_path / "new/chart")
    files = sorted((tmp_path / "new").iterdir())
    assert [path.name for path in files] == ["chart.pdf", "chart.png"]
    pdf, png = (path.read_bytes() for path in files)
    assert b"/Font" in pdf
    assert b"/Type3" not in pdf
    assert png == picture(chart())
