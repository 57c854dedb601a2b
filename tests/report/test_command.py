import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.cli import InputError
from stages.evaluate.metrics import paired_difference
from stages.params import load_params
from stages.report import content
from stages.report.content import nearest_km
from stages.report.inputs import read_inputs
from stages.shards import write_json

PARAMS = load_params()


class Page(HTMLParser):
    """What a browser would load, what it would only link to, and the tables' first cells."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.links, self.open, self.first_cells, self.title = [], [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.loaded += [attributes[name] for name in ("src", "srcset", "data") if name in attributes]
        if tag == "a":
            self.links.append(attributes["href"])
        elif "href" in attributes:
            self.loaded.append(attributes["href"])
        self.open = [tag]

    def handle_data(self, data):
        if self.open == ["title"]:
            self.title += data
        if self.open == ["td"]:
            self.first_cells.append(data)


def written(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_page_is_one_self_contained_file_and_the_same_bytes_again(tree, capsys):
    run = tree()
    text = run.report()
    page = Page(text)
    assert "VarioCLIP" in page.title
    assert page.loaded
    assert all(address.startswith("data:") for address in page.loaded)
    assert {address for address in page.links if not address.startswith("https://arxiv.org/abs/")} == {"times.csv"}
    assert "url(" not in text
    assert "@import" not in text
    labels = ("GeoCLIP (infonce)", "semivariogram", "image k-NN, no training", "most frequent place")
    assert all(label in page.first_cells for label in labels)
    assert "best possible answer" in page.first_cells
    assert "not the real Earth" in text
    assert "The features against the truth" in text
    assert "tiny &lt;model&gt;" in text  # names come from outside
    assert "A &amp; B" in text
    assert "R² −0.250" in text
    assert "weight_decay 0.000001, sigmas 1 16" in text
    assert f"<dd>source world, seed {PARAMS.data.world.seed}, n_train " in text
    assert "filter (bounding_box none, countries none, fraction 1, max_photos 0), validation places" in text
    assert "gallery train, gallery_size 0, top_k 5, n_bootstrap 2000, refine none, seed 1" in text
    assert "each group of photos" not in text
    assert "best possible answer" in capsys.readouterr().out

    first = written(Path("reports"))
    names = {path.relative_to("reports").as_posix() for path in first}
    figures = ("against_truth", "error_curves", "error_map", "learning_curves", "photo_map", "region_map")
    files = {f"figures/{name}.{suffix}" for name in figures for suffix in ("png", "pdf")}
    assert files | {"readme.png", "results.md", "index.html"} <= names
    run.report()
    assert written(Path("reports")) == first


def test_the_numbers_of_the_page_are_those_of_the_evaluation(tree):
    run = tree()
    text = run.report()
    for name in ("infonce", "semivariogram", "image_knn", "most_frequent"):
        values = run.metrics(name)
        for key in ("accuracy_200km", "accuracy_country"):
            value, low, high = (f"{100 * values[key + end]:.1f}" for end in ("", "_low", "_high"))
            assert f"<td>{value}<small>{low}–{high}</small></td>" in text
        assert f"<td>{values['geoscore']:,.0f}</td>" in text


def test_intervals_are_over_drives(tree):
    run = tree()
    text = run.report()
    assert "whole drives are drawn anew, 6 of them" in text
    error_km = {
        name: pl.read_parquet(f"data/predictions/{name}.parquet")["error_km"].to_numpy()
        for name in ("semivariogram", "infonce")
    }
    resampling = {"n_bootstrap": PARAMS.evaluate.n_bootstrap, "seed": PARAMS.evaluate.seed}
    change = paired_difference(*error_km.values(), np.arange(12) // 2, **resampling)
    value, low, high = map(content.points, change["accuracy_200km"])
    assert f"{value}<small>{low} to {high}</small>" in text


def test_the_countries_have_their_rows_those_beyond_ten_behind_a_fold(tree, monkeypatch):
    run = tree()
    text = run.report()
    assert {"FJ", "AA"} <= set(Page(text).first_cells)
    assert "<details>" not in text
    names = [f"C{i:02}" for i in range(12)]
    rows = content.country_rows(pl.Series(names), np.ones(12))
    monkeypatch.setattr(content, "country_rows", lambda *_: rows)
    text = run.report()
    assert set(names) <= set(Page(text).first_cells)
    assert "The other 2 countries" in text


def test_a_refined_answer_has_its_rows_and_says_where_it_is_worse_than_its_sources(tree):
    run = tree(refined=["semivariogram"])
    text = run.report()
    page = Page(text)
    assert page.first_cells.count("semivariogram, refined") == 3  # by distance, against infonce, by area
    values = run.metrics("semivariogram_refined")
    assert f"<td>{100 * values['accuracy_200km']:.1f}<small>" in text
    assert "By the kriged appearance with strength 8, chosen on 3 validation photos." in text
    assert "worse than the better of its two sources within 1 km (0.0 against 33.3 %)." in text
    assert "On the test photos, in points against semivariogram alone: " in text
    assert "On the test photos, in points against image k-NN, no training alone: " in text
    assert "after training with this loss: semivariogram." in text
    assert "dash-dotted ones are refined answers" in text


def test_a_refined_answer_that_is_a_sources_own_has_its_rows_and_no_marks_of_its_own(tree):
    run = tree(refined=["semivariogram"])
    assert read_inputs("world", run.losses, run.refined).repeated == []
    own = run.metrics("semivariogram_refined") | {"refined_by": "model", "refined_strength": 0.0}
    write_json(Path("reports/evaluation/semivariogram_refined.json"), own)
    assert read_inputs("world", run.losses, run.refined).repeated == ["semivariogram_refined"]
    text = run.report()
    assert Page(text).first_cells.count("semivariogram, refined") == 3
    assert "so this is the answer of the model." in text
    assert "dash-dotted" not in text


def test_without_a_refined_answer_the_page_says_nothing_of_one(tree):
    assert "refined" not in tree().report().replace("semivariogram_refined", "")


def test_no_prediction_is_better_than_the_best_possible(tree):
    tree()
    inputs = read_inputs("world", ["infonce", "semivariogram"], [])
    best_km = nearest_km(inputs.places["test"], inputs.places["train"])
    assert all((error_km >= best_km - 1e-6).all() for error_km in inputs.errors_km.values())


def test_the_groups_semivariograms_are_on_the_page_if_there_are_any(tree):
    run = tree()
    shutil.copy("reports/variogram/negatives.png", "reports/variogram/groups.png")
    text = run.report()
    assert text.count("the semivariogram of each group of photos") == 2  # alternative text and caption


def test_a_mirrors_page_without_range_shows_no_truth_and_no_note_on_a_synthetic_world(tree, model):
    run = tree(source="mirror", losses=["semivariogram"])
    run.write_variogram(replace(model("nugget", None), warnings=("a town owns a bin",)))
    Path("reports/variogram/example_pairs.csv").write_text("kind,id_a,id_b,lag_km,distance,expected_distance,z\n")
    text = run.report()
    assert "not the real Earth" not in text
    assert "The features against the truth" not in text
    assert "practical range" not in text
    assert "Note: a town owns a bin" in text
    assert "Hard negatives: far apart" not in text
    assert "photo by photo" not in text  # nothing to compare with
    assert "On this run, " in text
    assert "The paper's table 1" not in text


def test_the_page_of_the_baseline_loss_alone_on_the_real_data_shows_the_papers_table(tree):
    run = tree(source="hub", losses=["infonce"], n_test=1)
    text = run.report()
    assert "The paper's table 1" in text
    assert "<td>the paper&#39;s loss</td><td>–</td><td>21.5</td>" in text
    assert "Share of the 1 test photo placed" in text
    assert "after training with this loss: GeoCLIP (infonce)" in text


@pytest.mark.parametrize("evaluate", [{"gallery": "mine.csv"}, {"gallery_size": 10}])
def test_a_gallery_of_other_places_has_no_best_possible_row(tree, monkeypatch, evaluate):
    run = tree(losses=["infonce"], n_test=2)
    run.use(monkeypatch, **evaluate)
    assert "best possible" not in run.report()


@pytest.mark.parametrize(
    "missing",
    [
        "data/predictions/infonce.parquet",
        "reports/evaluation/image_knn.json",
        "reports/training/semivariogram.csv",
        "reports/variogram/negatives.png",
        "data/models/infonce/config.json",
        "data/variogram/model.json",
        "data/world/features/test",
        "data/world/raw/geography/coastlines.csv",
    ],
)
def test_a_missing_input_is_named_with_the_way_out(tree, missing):
    tree()
    shutil.rmtree(missing) if Path(missing).is_dir() else Path(missing).unlink()
    with pytest.raises(InputError, match=rf"{missing} .*dvc repro"):
        read_inputs("world", ["infonce", "semivariogram"], [])


def test_ids_of_digits_stay_text(tree):
    tree()
    table = pl.DataFrame({"kind": ["hard_negative"], "id_a": ["00123"], "id_b": ["12345678901234567"]})
    table.with_columns(lag_km=1.0, distance=0.1, expected_distance=0.2, z=1.0).write_csv(
        "reports/variogram/example_pairs.csv"
    )
    pairs = read_inputs("world", ["infonce", "semivariogram"], []).pairs
    assert pairs.row(0)[:3] == ("hard_negative", "00123", "12345678901234567")
    assert np.isfinite(pairs["z"][0])
