import numpy as np
import polars as pl

from stages.predict.answers import answer_table
from stages.predict.figures import draw_many, draw_one
from stages.predict.search import Answers

COASTLINES = pl.DataFrame({"line": [0, 0, 1, 1], "latitude": [-30.0, 10, 60, 61], "longitude": [20.0, 50, 179, -179]})


def table(n_photos, k):
    rng = np.random.default_rng(0)
    latitude, longitude = rng.uniform(-90, 90, (n_photos, k)), rng.uniform(-180, 180, (n_photos, k))
    share = np.full((n_photos, k), 0.62)
    return answer_table([f"{i}.jpg" for i in range(n_photos)], Answers(latitude, longitude, share / 10, share), None)


def test_photos_are_one_series_of_points_however_many():
    few, many = (draw_many(table(n, 2), COASTLINES).axes[0] for n in (30, 3000))
    assert len(few.collections) == len(many.collections) == 1
    assert len(many.collections[0].get_offsets()) == 3000
    assert len(draw_one(table(1, 500), COASTLINES).axes[0].collections) == 1


def test_a_photos_lines_say_how_probable_the_surroundings_are():
    figure = draw_one(table(1, 12), COASTLINES)
    lines = figure.get_supxlabel().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("1.  62.0% within 25 km  (")
