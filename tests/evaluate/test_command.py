import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.cli import InputError
from stages.evaluate import __main__ as command
from stages.evaluate import refine
from stages.evaluate.gallery import TopPlaces
from stages.geo import unit_vectors
from stages.params import load_params
from stages.variogram.models import write_model

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
TOWNS = "lat,lon,name,admin1,admin2,cc\n10,20,A,North,,AA\n-17,178,Nadi,Western,,FJ\n80,0,Pole,Ice,,NN\n"


@pytest.fixture
def pipeline(tmp_path, monkeypatch, write_features, model, semivariogram):
    """A folder as the earlier stages leave it, with a model that finds the gallery's place nearest to a photo."""
    monkeypatch.chdir(tmp_path)
    world = PARAMS.model_copy(update={"data": PARAMS.data.model_copy(update={"source": "world"})})
    monkeypatch.setattr(command, "load_params", lambda: world)
    monkeypatch.setattr(command, "load_release", lambda folder: model)
    source = Path("data/world")
    train, test = ([10.0, 10.01, -17.0, 89.0], [20.0, 20.01, 178.0, 90.0]), ([10.1, -17.0, 89.5], [20.0, -179.9, -90.0])
    names = {"country": ["AA", "FJ", None], "region": ["North", None, None]}
    for split, places, areas in (("train", train, {}), ("test", test, names)):
        write_features(source / f"features/{split}/00000.arrow", *places, unit_vectors(*np.array(places)), **areas)
    val = [10.02, -17.0, 88.0], [20.02, 178.1, -90.0]
    write_features(source / "features/val/00000.arrow", *val, unit_vectors(*np.array(val)))
    write_model(semivariogram(), Path("data/variogram/model.json"))
    geography = source / "raw" / "geography"
    geography.mkdir(parents=True)
    (geography / "places.csv").write_text(TOWNS)
    release = Path("data/models/infonce")
    release.mkdir(parents=True)
    (release / "gallery.csv").write_text("LAT,LON\n10,20\n-17,178\n89,90\n")
    return world


def read(name):
    return pl.read_parquet(f"data/predictions/{name}.parquet"), json.loads(
        Path(f"reports/evaluation/{name}.json").read_text()
    )


def test_a_models_predictions_and_metrics_are_written(pipeline):
    command.main("infonce")
    predictions, metrics = read("infonce")
    assert predictions.columns == [
        "id", "latitude", "longitude", "predicted_latitude", "predicted_longitude", "error_km",
        "top_latitude", "top_longitude", "top_probability",
    ]  # fmt: skip
    assert predictions["predicted_longitude"].to_list() == [20, 178, 90]
    # 0.1 degree of latitude; 2.1 degrees of longitude over the antimeridian at 17 south; 0.5 + 1 degree over the pole
    np.testing.assert_allclose(predictions["error_km"], [11.12, 223.3, 166.8], rtol=1e-3)
    assert predictions["top_latitude"].list.len().to_list() == [3, 3, 3]  # of five, the gallery has three
    np.testing.assert_allclose(predictions["top_probability"].list.sum(), 1, rtol=1e-5)
    assert metrics["count"] == 3
    assert metrics["accuracy_25km"] == pytest.approx(1 / 3)
    assert metrics["accuracy_country"] == 1
    assert metrics["accuracy_region"] == 1
    assert "accuracy_city" not in metrics


def test_the_curve_ends_at_1_and_agrees_with_the_accuracies(pipeline):
    command.main("infonce")
    curve = pl.read_csv("reports/evaluation/infonce.csv")
    assert curve.columns == ["distance_km", "accuracy"]
    assert curve["accuracy"][-1] == 1
    assert curve.filter(pl.col("distance_km") <= 25)["accuracy"][-1] == pytest.approx(1 / 3)


def test_the_same_inputs_give_the_same_bytes(pipeline):
    command.main("infonce")
    paths = [Path("data/predictions/infonce.parquet"), *Path("reports/evaluation").iterdir()]
    first = [path.read_bytes() for path in paths]
    command.main("infonce")
    assert [path.read_bytes() for path in paths] == first


def test_image_knn_answers_with_the_place_of_the_most_similar_photo(pipeline):
    command.main("image_knn")
    predictions, _ = read("image_knn")
    assert predictions["predicted_latitude"].to_list() == [10.01, -17, 89]
    assert predictions["top_probability"].to_list() == [None] * 3


def test_most_frequent_answers_with_the_densest_town_for_every_photo(pipeline):
    command.main("most_frequent")
    predictions, metrics = read("most_frequent")
    assert predictions["predicted_latitude"].to_list() == [10] * 3
    assert predictions["top_probability"][0].to_list() == [0.5, 0.25, 0.25]
    assert metrics["accuracy_country"] == 0.5


def test_a_model_that_was_not_trained_is_named_with_the_way_out(pipeline):
    message = (
        r"data/models/semivariogram is missing; train it first: dvc repro train@semivariogram, or .*infonce, image_knn"
    )
    with pytest.raises(InputError, match=message):
        command.main("semivariogram")


def test_a_gallery_of_ones_own_is_searched(pipeline, monkeypatch):
    Path("mine.csv").write_text("LAT,LON\n0,0\n")
    own = pipeline.model_copy(update={"evaluate": pipeline.evaluate.model_copy(update={"gallery": "mine.csv"})})
    monkeypatch.setattr(command, "load_params", lambda: own)
    command.main("infonce")
    predictions, _ = read("infonce")
    assert predictions["predicted_latitude"].to_list() == [0] * 3
    assert predictions["top_probability"].to_list() == [[1.0]] * 3


def test_a_refined_answer_says_how_it_was_chosen(pipeline, capsys):
    command.main("infonce_refined")
    predictions, refined = read("infonce_refined")
    command.main("infonce")
    plain, metrics = read("infonce")
    # Model and image k-NN, both within 25 km on one of three validation photos, are equal to every mixture.
    assert (refined["refined_by"], refined["refined_strength"], refined["validation_count"]) == ("model", 0, 3)
    assert refined["validation_model_accuracy_25km"] == refined["validation_refined_accuracy_25km"]
    assert predictions.drop("top_probability").equals(plain.drop("top_probability"))
    assert metrics.items() <= refined.items()
    assert "so this is the answer of the model." in capsys.readouterr().out


def test_a_refined_answer_has_the_same_bytes_again_in_several_chunks(pipeline, monkeypatch):
    command.main("infonce_refined")
    paths = [Path("data/predictions/infonce_refined.parquet"), *Path("reports/evaluation").iterdir()]
    first = [path.read_bytes() for path in paths]
    monkeypatch.setattr(refine, "_PHOTO_CHUNK", 2)
    command.main("infonce_refined")
    assert [path.read_bytes() for path in paths] == first


def test_lists_are_as_long_as_a_photo_has_places():
    places = pl.DataFrame({"id": ["a", "b"], "latitude": [0.0, 1.0], "longitude": [2.0, 3.0]})
    top = [
        np.array(rows) for rows in ([[1.0, np.nan], [5.0, 6.0]], [[2.0, np.nan], [7, 8]], [[1, np.nan], [0.5, 0.25]])
    ]
    table = command.prediction_table(places, TopPlaces(*top))
    assert table["top_latitude"].to_list() == [[1], [5, 6]]
    assert table["top_longitude"].to_list() == [[2], [7, 8]]
    assert table["top_probability"].to_list() == [[1], [0.5, 0.25]]
    assert table["predicted_longitude"].to_list() == [2, 7]
    without = command.prediction_table(places, TopPlaces(*top[:2], None))
    assert without.schema == table.schema
    assert without["top_probability"].to_list() == [None, None]


def test_image_knn_searches_where_the_models_are(pipeline, monkeypatch):
    monkeypatch.setattr(command, "fastest_device", lambda: "meta")
    devices = []

    def search(queries, training, k):
        devices.append(queries.device.type)
        return np.zeros((len(queries), k), int), None

    monkeypatch.setattr(command.baselines, "image_knn", search)
    command.main("image_knn")
    assert devices == ["meta"]


def test_of_many_validation_photos_some_choose_the_refinement(pipeline, monkeypatch):
    monkeypatch.setattr(command, "CHOICE_PHOTOS", 2)
    command.main("infonce_refined")
    assert read("infonce_refined")[1]["validation_count"] == 2


def test_a_refined_answer_needs_a_model_a_semivariogram_and_validation_photos(pipeline, write_features):
    with pytest.raises(InputError, match="data/models/semivariogram is missing; train it first"):
        command.main("semivariogram_refined")
    write_features(Path("data/world/features/val/00000.arrow"), [], [], np.empty((0, 3)))
    with pytest.raises(InputError, match="no validation photo to choose the refinement by; raise shard.validation_fr"):
        command.main("infonce_refined")
    Path("data/variogram/model.json").unlink()
    shutil.rmtree("data/world/features/val")
    write_features(Path("data/world/features/val/00000.arrow"), [1.0], [2.0], np.eye(3)[:1])
    with pytest.raises(InputError, match="run the variogram stage first"):
        command.main("infonce_refined")


def test_a_model_of_another_encoder_than_the_features_is_refused_with_what_differs(pipeline):
    facts = {"model": "ViT-L-14", "seed": 1, "center": [0.5] * 99, "photos": {"test": 3}}
    release = {"model_type": "geoclip-geolocation", "format_version": 1, "encoder": facts}
    Path("data/models/infonce/config.json").write_text(json.dumps(release))
    encoder = Path("data/world/features/encoder.json")
    encoder.write_text(json.dumps(facts | {"photos": {"test": 4}}))
    command.main("infonce")
    encoder.write_text(json.dumps(facts | {"seed": 2}))
    message = "data/models/infonce was .* another encoder than data/world/features has: its 'seed' is 1, here it is 2; "
    for name in ("infonce", "infonce_refined"):
        with pytest.raises(InputError, match=message):
            command.main(name)
    command.main("image_knn")
    encoder.write_text(json.dumps(facts | {"center": [0.25] * 99}))
    with pytest.raises(InputError, match=r"'center' is \[0.5, .* \.\.\., here it is \[0.25, .*train@infonce") as raised:
        command.main("infonce")
    assert len(str(raised.value)) < 400
    encoder.unlink()
    with pytest.raises(InputError, match="here it is None"):
        command.main("infonce")
