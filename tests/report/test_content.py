from typing import get_args

import numpy as np
import polars as pl
import pytest

from stages.evaluate.choice import IMAGE_KNN, MODEL, Setting, describe
from stages.evaluate.choice import in_words as choice_in_words
from stages.evaluate.metrics import paired_difference, summarize
from stages.geo import great_circle_km
from stages.params import LossName
from stages.report import content
from stages.report.figures import COLOURS


@pytest.mark.parametrize(("share", "text"), [(None, "–"), (0.0, "0.0"), (1.0, "100.0"), (0.12345, "12.3")])
def test_percent(share, text):
    assert content.percent(share) == text


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (0.018, "+1.8"),
        (-0.018, "−1.8"),
        (0.0, "0.0"),
        (-0.0, "0.0"),
        (-0.0004, "0.0"),
        (0.0004, "0.0"),
        (-1.0, "−100.0"),
    ],
)
def test_points_have_a_sign_and_a_true_minus(difference, text):
    assert content.points(difference) == text


@pytest.mark.parametrize(("value", "text"), [(-1939.4, "−1,939"), (1234.0, "+1,234"), (-0.4, "0"), (10.0, "+10")])
def test_signed_numbers_have_thousands_separators(value, text):
    assert content.signed(value, 0) == text


@pytest.mark.parametrize(
    ("km", "text"),
    [(0.0, "0 m"), (0.1234, "123 m"), (0.9994, "999 m"), (0.99951, "1.0 km"), (1.04, "1.0 km"), (9.94, "9.9 km"),
     (9.97, "10 km"), (19_999.6, "20,000 km")],
)  # fmt: skip
def test_distances_are_in_m_km_or_whole_km(km, text):
    assert content.distance(km) == text


def metrics_of(errors_km):
    return {name: summarize(error, np.arange(len(error)), n_bootstrap=100, seed=1) for name, error in errors_km.items()}


def differences_of(at_25, at_200):
    rest = dict.fromkeys((*content.DISTANCES, "median_error_km"), (0.0, 0.0, 0.0))
    return {"semivariogram": rest | {"accuracy_25km": at_25, "accuracy_200km": at_200}}


METRICS = {
    "infonce": {"accuracy_25km": 0.30, "accuracy_200km": 0.50},
    "semivariogram": {"accuracy_25km": 0.32, "accuracy_200km": 0.47},
}
BETTER, WORSE, OPEN = (0.02, 0.01, 0.03), (-0.03, -0.05, -0.01), (0.02, -0.01, 0.05)


@pytest.mark.parametrize(
    ("at_25", "at_200", "verdict"),
    [
        (BETTER, WORSE, "Both intervals leave out zero."),
        (BETTER, OPEN, "Only one of the two intervals leaves out zero."),
        (OPEN, WORSE, "Only one of the two intervals leaves out zero."),
        (OPEN, OPEN, "Neither interval leaves out zero: on this run the two cannot be told apart."),
        ((0.02, 0.0, 0.03), OPEN, "Neither interval leaves out zero: on this run the two cannot be told apart."),
    ],
)
def test_the_finding_says_what_is_sure(at_25, at_200, verdict):
    assert content.finding(METRICS, differences_of(at_25, at_200)).endswith(verdict)


def test_the_finding_gives_both_shares_and_the_difference_better_or_worse():
    assert content.finding(METRICS, differences_of(BETTER, WORSE)) == (
        "The semivariogram loss places 32.0 % of the test photos within 25 km, GeoCLIP's own loss 30.0 % (+2.0 points, "
        "95 % interval +1.0 to +3.0); and 47.0 % of the test photos within 200 km, GeoCLIP's own loss 50.0 % "
        "(−3.0 points, 95 % interval −5.0 to −1.0). Both intervals leave out zero."
    )


def test_without_a_comparison_the_finding_names_the_best():
    metrics = {"infonce": {"accuracy_25km": 0.2}, "image_knn": {"accuracy_25km": 0.25}}
    assert content.finding(metrics, {}) == (
        "On this run, image k-NN, no training places most photos within 25 km: 25.0 %."
    )


def test_comparisons_are_paired_differences_against_infonce():
    rng = np.random.default_rng(0)
    errors_km = {name: rng.exponential(300, 50) for name in ("infonce", "semivariogram", "hard_negative", "image_knn")}
    drive = np.arange(50) // 2
    answers = ["semivariogram", "infonce", "hard_negative"]
    found = content.comparisons(errors_km, answers, drive, n_bootstrap=200, seed=3)
    assert list(found) == ["semivariogram", "hard_negative"]
    for loss, by_key in found.items():
        assert by_key == paired_difference(errors_km[loss], errors_km["infonce"], drive, n_bootstrap=200, seed=3)
        within = [(errors_km[name] <= 200).mean() for name in (loss, "infonce")]
        assert by_key["accuracy_200km"][0] == pytest.approx(within[0] - within[1])


def test_without_infonce_nothing_is_compared():
    errors_km = {"semivariogram": np.ones(3)}
    assert content.comparisons(errors_km, ["semivariogram"], np.arange(3), n_bootstrap=10, seed=1) == {}


def test_a_difference_is_bold_only_if_its_interval_leaves_out_0():
    rest = differences_of(BETTER, OPEN)["semivariogram"] | {"median_error_km": (-1112.0, -1939.0, -72.0)}
    (row,) = content.difference_rows({"semivariogram": rest})
    assert [cell["is_sure"] for cell in row["cells"]] == [False, True, False, False, False, True]
    assert row["cells"][-1] == {"value": "−1,112 km", "low": "−1,939", "high": "−72", "is_sure": True}


def test_a_small_difference_of_distances_has_a_decimal():
    rest = differences_of(BETTER, OPEN)["semivariogram"] | {"median_error_km": (-0.14, -1.06, 12.34)}
    (row,) = content.difference_rows({"semivariogram": rest})
    assert row["cells"][-1] == {"value": "−0.1 km", "low": "−1.1", "high": "+12", "is_sure": False}


def test_a_level_that_nothing_is_known_about_has_a_dash():
    metrics = metrics_of({"infonce": np.array([0.5, 30.0])})
    (row,) = content.results(metrics, {"accuracy_city": "city", "accuracy_25km": "25 km"})
    assert [cell["value"] for cell in row["cells"]] == ["–", "50.0"]
    assert row["median_error"] == "15 km"


def test_the_best_possible_answer_is_the_nearest_place_by_brute_force():
    latitude, longitude = np.array([90.0, -17.0, 0.0, 10.0]), np.array([12.0, -179.99, 0.0, 20.0])
    others = np.array([89.9, -17.0, 0.0, -10.0]), np.array([-100.0, 179.99, 180.0, 20.0])
    places, gallery = (pl.DataFrame({"latitude": a, "longitude": o}) for a, o in ((latitude, longitude), others))
    expected = great_circle_km(latitude[:, None], longitude[:, None], *others).min(axis=1)
    np.testing.assert_allclose(content.nearest_km(places, gallery), expected, rtol=1e-9)
    np.testing.assert_allclose(content.nearest_km(places, places), 0, atol=1e-9)


def test_rows_by_density_leave_out_empty_classes():
    places = {
        "test": pl.DataFrame({"latitude": [0.0, 0.0, 60.0], "longitude": [0.0, 0.1, 0.0]}),
        "train": pl.DataFrame({"latitude": [0.0] * 12, "longitude": [0.05] * 12}),
    }
    rows = content.density_rows(places, np.array([0.5, 100.0, 5000.0]))
    assert [(row["label"], row["count"]) for row in rows] == [("none", 1), ("10 to 99", 2)]
    assert rows[1]["cells"] == ["50.0", "50.0", "100.0", "100.0", "100.0"]
    assert rows[0]["median_error"] == "5,000 km"


def test_rows_by_country_leave_out_photos_of_none():
    country = pl.Series(["NA", None, "FJ", "FJ"])
    rows = content.country_rows(country, np.array([0.5, 0.5, 100.0, 5000.0]))
    assert [(row["label"], row["count"]) for row in rows] == [("FJ", 2), ("NA", 1)]
    assert rows[0]["cells"] == ["0.0", "0.0", "50.0", "50.0", "50.0"]
    assert rows[0]["median_error"] == "2,550 km"
    assert content.country_rows(pl.Series([None], dtype=pl.String), np.array([1.0])) == []


def test_reasons_are_counted_the_most_frequent_first():
    rejected = pl.DataFrame({"reason": ["no row", "no image", "no image", "broken"]})
    assert content.count_reasons(rejected) == [("no image", 2), ("broken", 1), ("no row", 1)]


def test_every_loss_has_a_label():
    assert set(get_args(LossName)) <= set(content.LABELS)
    assert set(content.LABELS) == set(COLOURS)


def test_a_refined_answer_is_labelled_by_its_loss():
    assert content.label("semivariogram_refined") == "semivariogram, refined"
    assert content.label("infonce_refined") == "GeoCLIP (infonce), refined"
    assert content.label("image_knn") == "image k-NN, no training"


def refinement(setting, errors_km):
    validation_km = np.array([0.5, 30.0])
    facts = describe(setting, dict.fromkeys((MODEL, IMAGE_KNN, setting), validation_km))
    metrics = {"infonce": {}, "infonce_refined": facts, "image_knn": {}}
    ((label, text),) = content.refinements(metrics, errors_km, np.arange(2), n_bootstrap=100, seed=1)
    assert label == "GeoCLIP (infonce), refined"
    assert text.startswith(choice_in_words(facts))
    return text.removeprefix(choice_in_words(facts))


@pytest.mark.parametrize(("setting", "source"), [(MODEL, "infonce"), (IMAGE_KNN, "image_knn")])
def test_a_refined_answer_that_is_a_sources_own_is_not_compared(setting, source):
    errors_km = {"infonce": np.array([0.5, 30.0]), "image_knn": np.array([9.0, 9.0])}
    assert refinement(setting, errors_km | {"infonce_refined": errors_km[source]}) == ""


def test_a_refined_answer_is_compared_with_both_of_its_sources():
    errors_km = {"infonce": [0.5, 30.0], "infonce_refined": [0.5, 20.0], "image_knn": [30.0, 30.0]}
    text = refinement(Setting(8.0, "kriged"), {name: np.array(error_km) for name, error_km in errors_km.items()})
    ours, knn = text.split(" On the test photos, in points ")[1:]
    assert ours.startswith("against GeoCLIP (infonce) alone: 0.0 [0.0, 0.0] within 1 km, +50.0 [0.0, +100.0] within 25")
    assert knn.startswith("against image k-NN, no training alone: +50.0 [0.0, +100.0] within 1 km, +100.0 [+100.0, +10")


def test_the_papers_rows_have_a_cell_for_each_distance():
    rows = dict(content.paper_rows())
    assert rows["the paper's loss"] == ["–", "21.5", "52.1", "72.1", "–"]


def test_the_markdown_table_parses():
    rng = np.random.default_rng(1)
    errors_km = {name: rng.exponential(300, 40) for name in ("infonce", "semivariogram", "best_possible")}
    metrics = metrics_of(errors_km)
    differences = content.comparisons(errors_km, ["infonce", "semivariogram"], np.arange(40), n_bootstrap=100, seed=1)
    text = content.markdown_table(metrics, differences, "40 photos.")
    table, about = text.split("\n\n")
    head, rule, *rows = [line.strip("|").split("|") for line in table.splitlines()]
    assert [cell.strip() for cell in head] == ["within", *content.DISTANCES.values(), "median error"]
    assert set("".join(rule)) <= set("-:")
    assert {len(cells) for cells in (head, rule, *rows)} == {7}
    assert [cells[0].strip() for cells in rows] == (
        ["GeoCLIP (infonce)", "semivariogram", "best possible answer", "*semivariogram − infonce, points*"]
    )
    assert "-" not in "".join("".join(cells) for cells in rows)
    assert about == "40 photos.\n"
