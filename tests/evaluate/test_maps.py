import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from stages.evaluate import maps
from stages.geo import displace, great_circle_km

mpl.use("agg")


def drawn_lines(ax):
    return [np.column_stack(line.get_data()) for line in ax.lines]


def test_a_line_over_the_antimeridian_is_cut_there():
    latitude, longitude = maps.cut_at_antimeridian(np.array([0.0, 10.0, 20.0]), np.array([170.0, -170.0, -160.0]))
    np.testing.assert_array_equal(longitude, [170, 180, np.nan, -180, -170, -160])
    np.testing.assert_array_equal(latitude, [0, 5, np.nan, 5, 10, 20])


@pytest.mark.parametrize(
    ("longitude", "expected"),
    [
        ([-179.0, 179.0], [-179, -180, np.nan, 180, 179]),
        ([180.0, -180.0], [180, 180, np.nan, -180, -180]),  # on the antimeridian itself
        ([0.0, 180.0], [0, 180]),
        ([175.0, np.nan, -175.0], [175, np.nan, -175]),  # two lines, not one
        ([5.0], [5]),
    ],
)
def test_cuts(longitude, expected):
    latitude, cut = maps.cut_at_antimeridian(np.zeros(len(longitude)), np.array(longitude))
    np.testing.assert_array_equal(cut, expected)
    np.testing.assert_array_equal(np.isnan(latitude), np.isnan(expected) & (len(expected) > len(longitude)))


@pytest.mark.parametrize("there", [(50, 10), (-33, -151), (33, -151), (-33, 29), (90, 0), (33.0001, 29)])
def test_a_great_circle_ends_at_both_places_and_is_no_longer_than_their_distance(there):
    here = (33.0, 29.0)
    latitude, longitude = maps.great_circle(*here, *there, n=200)
    steps = great_circle_km(latitude[1:], longitude[1:], latitude[:-1], longitude[:-1])
    whole = great_circle_km(*np.array([*here, *there], float))
    np.testing.assert_allclose(steps.sum(), whole, rtol=1e-6, atol=1e-6)
    ends = great_circle_km(latitude[[0, -1]], longitude[[0, -1]], *np.array([here, there], float).T)
    np.testing.assert_allclose(ends, 0, atol=1e-3)


def test_a_great_circle_to_the_same_place_stays_there():
    latitude, longitude = maps.great_circle(10.0, 20.0, 10.0, 20.0)
    np.testing.assert_allclose(latitude, 10)
    np.testing.assert_allclose(longitude, 20)


def test_coastlines_are_separate_and_no_segment_crosses_the_map():
    coastlines = pl.DataFrame(
        {
            "line": [0, 0, 0, 1, 1],
            "latitude": [60.0, 65.0, 70.0, 0.0, 5.0],
            "longitude": [178.0, -178.0, -170.0, 10.0, 12.0],
        }
    )
    ax = Figure().subplots()
    maps.draw_coastlines(ax, coastlines)
    *_, coasts = drawn_lines(ax)
    assert np.isnan(coasts).any(axis=1).sum() == 2
    assert np.nanmax(np.hypot(*np.diff(coasts, axis=0).T)) < 0.3  # of a map 5.4 wide
    assert ax.get_aspect() == 1


def test_errors_are_drawn_at_their_places_in_the_colour_of_their_class():
    ax = Figure().subplots()
    maps.draw_errors(ax, np.array([0.0, 10.0]), np.array([0.0, 20.0]), np.array([1.0, 2500.1]))
    points = ax.collections[-1]
    np.testing.assert_allclose(points.get_offsets(), np.column_stack(maps.project([0, 10], [0, 20])))
    assert points.get_array().tolist() == [0, 5]
    assert ax.get_legend().get_texts()[0].get_text() == "≤ 1 km: 50 %"


def test_the_classes_of_errors_are_apart_unlike_the_accuracies():
    labels = ", ".join(maps.ERROR_LABELS)
    assert labels == "≤ 1 km, 1–25 km, 25–200 km, 200–750 km, 750–2,500 km, > 2,500 km"


def test_the_legend_of_shares_shows_discs_as_large_as_they_are_drawn():
    ax = Figure().subplots()
    discs = maps.draw_shares(ax, np.zeros(3), np.zeros(3), np.zeros(3), np.array([1, 30, 3]))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1 photo", "3 photos", "30 photos"]
    shown = [series.get_sizes()[0] for series in ax.collections[:3]]
    np.testing.assert_allclose(shown, np.sort(discs.get_sizes()))


def test_a_map_is_drawn_whatever_the_prediction():
    figure = Figure()
    ax = figure.subplots()
    maps.draw_prediction(ax, np.array([0.0]), np.array([0.0]), truth=(0.0, -180.0))
    maps.draw_prediction(ax, np.array([90.0, -90.0]), np.array([180.0, -180.0]))
    maps.draw_shares(ax, np.array([50.0]), np.array([8.0]), np.array([0.5]), np.array([3]))
    figure.draw_without_rendering()


@pytest.mark.parametrize("center", [(0.0, 0.0), (60.0, 179.9), (80.0, 20.0), (-90.0, 0.0)])
def test_a_close_up_shows_places_at_their_distance_and_no_line_to_the_far_side(center):
    rng = np.random.default_rng(0)
    scattered = np.degrees(np.arcsin(rng.uniform(-1, 1, 4000))), rng.uniform(-180, 180, 4000)
    line = maps.great_circle(center[0] / 2, center[1] + 5, -center[0], center[1] - 175, n=400)
    coastlines = pl.DataFrame(
        {
            "line": np.r_[np.repeat(np.arange(2000), 2), np.full(400, 2000)],
            "latitude": np.r_[scattered[0], line[0]],
            "longitude": np.r_[scattered[1], line[1]],
        }
    )
    ax = Figure().subplots()
    project = maps.draw_close_up(ax, coastlines, *center, 1000)
    for drawn in drawn_lines(ax):
        assert not np.nanmax(np.hypot(*drawn.T), initial=0) > 3000
    there = displace(*np.array(center), np.array([300.0, 0.0, -1000.0]), np.array([0.0, 999.0, 0.0]))
    maps.draw_prediction(ax, *there, project=project)
    points = ax.collections[-1].get_offsets()[::-1]  # the best is drawn last
    np.testing.assert_allclose(points, [(300, 0), (0, 999), (-1000, 0)], atol=1e-3)
    maps.draw_prediction(ax, *there, truth=center, project=project)
    way = drawn_lines(ax)[-1]
    way = way[~np.isnan(way).any(axis=1)]  # cut at the antimeridian, which lies as near as anything here
    np.testing.assert_allclose(way[[0, -1]], [(0, 0), (300, 0)], atol=1e-3)
    assert (ax.get_xlim(), ax.get_ylim()) == ((-1000, 1000), (-1000, 1000))


def test_the_best_place_is_the_largest_and_on_top():
    ax = Figure().subplots()
    maps.draw_prediction(ax, np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]))
    (points,) = ax.collections
    assert points.get_sizes().tolist() == [30, 30, 60]
    np.testing.assert_allclose(points.get_offsets()[-1], maps.project(1, 4))
