import json

import numpy as np
import polars as pl
import pytest

from stages.evaluate.metrics import summarize
from stages.figures import picture
from stages.report import figures, maps
from stages.world import truth

TRUTH = json.loads(json.dumps(truth.describe()))
COASTLINES = pl.DataFrame({"line": [0, 0, 1], "latitude": [10.0, 20.0, -90.0], "longitude": [179.0, -179.0, 0.0]})
EDGES = {"latitude": [90.0, -90.0, 0.0, -17.0], "longitude": [0.0, 45.0, -180.0, 180.0]}


def predictions(n, error_km):
    places = pl.DataFrame({key: values[:n] for key, values in EDGES.items()})
    return places.with_columns(error_km=pl.Series(np.full(n, error_km)))


def lines(figure):
    return {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("error_km", [0.0, 20_015.0])
def test_maps_are_drawn_with_one_photo_the_poles_the_antimeridian_and_equal_errors(n, error_km):
    table = predictions(n, error_km)
    for figure in (
        maps.photo_map(COASTLINES, {"train": table, "test": table}),
        maps.error_map(COASTLINES, table),
        maps.region_map(COASTLINES, table),
    ):
        assert picture(figure, dpi=40).startswith(b"\x89PNG")


@pytest.mark.parametrize("top", [[-90.0], [90.0, 0.0, -17.0]])
def test_a_prediction_at_the_antipodes_or_at_the_true_place_is_drawn(top):
    prediction = {"latitude": 90.0, "longitude": 0.0, "top_latitude": top, "top_longitude": [0.0] * len(top)}
    prediction["error_km"] = 20_015.0 if top[0] < 0 else 0.0
    assert picture(maps.prediction_map(COASTLINES, prediction), dpi=40)


@pytest.mark.parametrize(
    ("degrees", "bar"), [(1e-5, "10 m"), (0.01, "2 km"), (4.0, "500 km"), (5.0, None), (np.nan, None)]
)
def test_a_small_error_is_on_a_closer_map_with_a_scale_bar_of_about_its_length(degrees, bar):
    prediction = {"latitude": 10.0, "longitude": 20.0, "top_latitude": [10 + degrees], "top_longitude": [20.0]}
    figure = maps.prediction_map(COASTLINES, prediction | {"error_km": degrees * 111.195})
    assert [text.get_text() for text in figure.axes[0].texts] == ([] if bar is None else [bar])


@pytest.mark.parametrize("error_km", [np.zeros(3), np.full(3, 20_015.0), np.array([7.0])])
def test_error_curves_rise_from_the_share_at_100_m_to_all(error_km):
    figure = figures.error_curves({"infonce": error_km, "most_frequent": error_km})
    curve = lines(figure)["GeoCLIP (infonce)"]
    assert curve[0, 1] == 100 * np.mean(error_km <= 0.1)
    assert curve[curve[:, 0] >= error_km.max(), 1].tolist() == [100] * np.sum(curve[:, 0] >= error_km.max())
    assert picture(figure, dpi=40)


def test_distances_are_labelled_in_plain_numbers():
    figure = figures.error_curves({"infonce": np.array([7.0])})
    label = figure.axes[0].xaxis.get_major_formatter()
    assert [label(km, 0) for km in (0.1, 1, 1000, 10_000)] == ["0.1", "1", "1,000", "10,000"]


@pytest.mark.parametrize(("name", "range_km"), [("exponential", 500.0), ("nugget", None), ("linear", None)])
def test_the_summary_is_drawn_with_and_without_a_range(model, empirical, name, range_km):
    metrics = {"infonce": summarize(np.array([7.0]), np.array([0]), n_bootstrap=100, seed=1)}
    figure = figures.summary(empirical, model(name, range_km), metrics)
    marked = any("range" in text.get_text() for text in figure.axes[0].texts)
    assert marked == (range_km is not None)
    assert picture(figure, dpi=40)


def test_bins_without_any_block_error_are_drawn(model, empirical, tmp_path):
    # Read back from a CSV, a column without a number is text.
    empirical.with_columns(se_block=pl.lit(None)).write_csv(tmp_path / "empirical.csv")
    figure = figures.against_truth(model(), pl.read_csv(tmp_path / "empirical.csv"), TRUTH)
    assert picture(figure, dpi=40)


def test_the_fit_against_the_truth_is_without_its_nugget_and_a_share_of_its_sill(model, empirical):
    figure = figures.against_truth(model(), empirical, TRUTH)
    drawn = lines(figure)
    fitted = drawn["fitted to the features"]
    np.testing.assert_allclose(fitted[:, 1], (model().semivariance_at(fitted[:, 0]) - 0.1) / 0.6)
    assert fitted[-1, 1] == pytest.approx(1)
    by_threshold, in_proportion = (
        drawn[f"truth: mean, read {how}"][:, 1] for how in ("by a threshold", "in proportion")
    )
    assert np.all(by_threshold >= in_proportion)
    assert by_threshold[-1] == pytest.approx(1, abs=1e-3)


def test_a_curve_of_one_point_is_drawn():
    curve = pl.DataFrame({"epoch": [1.0], "validation_loss": [5.0], "accuracy_25km": [0.5], "accuracy_200km": [1.0]})
    figure = figures.learning_curves({"infonce": curve})
    (line,) = figure.axes[1].get_lines()
    assert line.get_xydata().tolist() == [[1.0, 50.0]]
    assert picture(figure, dpi=40)
