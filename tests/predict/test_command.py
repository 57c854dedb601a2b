import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from stages.cli import InputError
from stages.params import load_params
from stages.predict import __main__ as command
from stages.predict.figures import stacked

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
PLACES = {"Nairobi": (-1.3, 36.8), "Quito": (-0.2, -78.5), "Nadi": (-17.8, 177.4), "Alert": (82.5, -62.3)}
TOWNS = "lat,lon,name,admin1,admin2,cc\n-1.3,36.8,Nairobi,Nairobi,,KE\n-0.2,-78.5,Quito,Pichincha,Quito,EC\n"
RELEASE, ENCODER = Path("data/models/semivariogram"), Path("data/world/features/encoder.json")


@pytest.fixture
def predict(tmp_path, monkeypatch, model, encoder):
    """The command, with its defaults, in a folder as the pipeline leaves it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    world = PARAMS.model_copy(update={"data": PARAMS.data.model_copy(update={"source": "world"})})
    monkeypatch.setattr(command, "load_params", lambda: world)
    monkeypatch.setattr(command, "read_encoder", lambda path: (encoder, None))
    monkeypatch.setattr(command, "load_release", lambda folder: model)
    geography = Path("data/world/raw/geography")
    geography.mkdir(parents=True)
    (geography / "places.csv").write_text(TOWNS)
    (geography / "coastlines.csv").write_text("line,latitude,longitude\n0,-30,20\n0,10,50\n1,60,179\n1,61,-179\n")
    Path("data/world/features").mkdir()
    ENCODER.touch()
    RELEASE.mkdir(parents=True)
    (RELEASE / "model.safetensors").touch()
    (RELEASE / "config.json").touch()
    (RELEASE / "gallery.csv").write_text("LAT,LON\n" + "".join(f"{lat},{lon}\n" for lat, lon in PLACES.values()))

    def run(*photos, model=RELEASE, top_k=5, map_file=None, as_json=False):
        command.main([Path(photo) for photo in photos], model, top_k, map_file, as_json)

    return run


def test_one_photo_is_answered_with_a_table_of_named_places(predict, take_photo, capsys):
    predict(take_photo(Path("photo.png"), -1, 37), top_k=2)
    out = capsys.readouterr().out
    assert "photo.png" in out
    assert "-1.30000" in out
    assert "100.0%" in out
    assert "Nairobi, Nairobi, KE" in out
    assert len([line for line in out.splitlines() if "│" in line]) == 2


def test_many_photos_are_answered_with_csv_and_nothing_else(predict, take_photo, capsys):
    for name, place in PLACES.items():
        take_photo(Path("album", f"{name}.png"), *place)
    predict("album", top_k=3)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["photo"] for row in rows[::3]] == [f"album/{name}.png" for name in sorted(PLACES)]
    assert [row["rank"] for row in rows[:3]] == ["1", "2", "3"]
    for row in rows[::3]:
        assert (float(row["latitude"]), float(row["longitude"])) == PLACES[Path(row["photo"]).stem]
    assert list(rows[0])[5:] == ["country", "region", "sub_region", "city"]


def test_a_folder_of_one_photo_gives_csv_as_folders_do(predict, take_photo, capsys):
    take_photo(Path("album/a.png"), 0, 0)
    predict("album", top_k=1)
    assert capsys.readouterr().out.startswith("photo,rank,latitude,longitude,probability,")


def test_json_holds_every_place_with_its_probability(predict, take_photo, capsys):
    predict(take_photo(Path("photo.png"), 80, -60), as_json=True, top_k=9)
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["photo"] == "photo.png"
    assert len(answer["places"]) == 4  # of nine, the gallery has four
    assert answer["places"][0]["latitude"] == 82.5
    assert sum(place["probability"] for place in answer["places"]) == pytest.approx(1)
    assert answer["places"][0]["sub_region"] in (None, "Quito")


def test_a_photo_that_cannot_be_read_is_named_and_the_others_are_answered(predict, take_photo, capsys):
    Path("text.jpg").write_text("no photo")
    with pytest.raises(typer.Exit) as ended:
        predict(take_photo(Path("photo.png"), 0, 0), "text.jpg", "gone.jpg", top_k=1)
    assert ended.value.exit_code == 1
    out, err = capsys.readouterr()
    assert out.count("\n") == 2
    assert "skipped: text.jpg: unreadable image" in err
    assert "skipped: gone.jpg: No such file" in err


def test_nothing_is_printed_when_no_photo_can_be_read(predict, capsys):
    with pytest.raises(typer.Exit):
        predict("gone.jpg")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("n_photos", [1, 3])
def test_a_map_is_drawn_of_one_and_of_many_photos(predict, take_photo, n_photos):
    photos = [take_photo(Path(f"{i}.png"), 10 * i, 170 + 5 * i) for i in range(n_photos)]
    predict(*photos, map_file=Path("maps/out.png"))
    with Image.open("maps/out.png") as picture:
        assert picture.width > 1000


def test_the_gallery_is_embedded_once(predict, take_photo, model):
    photo = take_photo(Path("photo.png"), 0, 0)
    predict(photo)
    predict(photo)
    assert model.n_embedded == len(PLACES)


def test_the_answer_does_not_depend_on_the_photos_beside_it(predict, take_photo, capsys, monkeypatch):
    monkeypatch.setattr(command, "BATCH", 2)
    photos = [take_photo(Path(f"{i}.png"), 20 * i, 50 * i) for i in range(5)]
    predict(*photos, as_json=True)
    together = json.loads(capsys.readouterr().out)
    for photo, expected in zip(photos, together, strict=True):
        predict(photo, as_json=True)
        (alone,) = json.loads(capsys.readouterr().out)
        assert alone["photo"] == expected["photo"]
        for place, its in zip(alone["places"], expected["places"], strict=True):
            # 2e-6: a product of other sizes rounds otherwise in the last digits of float32.
            assert place == its | {"probability": pytest.approx(its["probability"], abs=2e-6)}


def test_a_map_of_an_unknown_kind_is_refused_before_any_work(predict):
    with pytest.raises(InputError, match="--map out.gif: a map ends in one of .png, .svg, .pdf"):
        predict("photo.png", map_file=Path("out.gif"))


def test_a_model_that_was_not_trained_is_named_with_the_way_out(predict):
    with pytest.raises(InputError, match="data/models/other is missing; train it first: dvc repro train@other"):
        predict("photo.png", model=Path("data/models/other"))


def test_photos_without_features_to_compare_with_say_the_way_out(predict):
    ENCODER.unlink()
    with pytest.raises(InputError, match=r"encoder.json is missing; .*: dvc repro features"):
        predict("photo.png")


def test_the_features_mean_is_subtracted_as_in_training(predict, take_photo, monkeypatch, encoder, capsys):
    photo = take_photo(Path("photo.png"), -1.3, 36.8)
    mean = encoder.encode(encoder.preprocess(Image.open(photo))) * 2  # what is left points to the antipode, near Nadi
    monkeypatch.setattr(command, "read_encoder", lambda path: (encoder, mean))
    predict(photo, as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["places"][0]["longitude"] == PLACES["Nadi"][1]


def test_names_that_would_hide_each_other_stand_in_lines_at_the_uppermost_point():
    x, y = np.array([0.0, 0.1, 2.0, 0.2]), np.array([0.0, 0.05, 0.0, -0.5])
    assert stacked(x, y, ["a", "b", "c", "d"]) == [((0.1, 0.05), "b\na"), ((2.0, 0.0), "c"), ((0.2, -0.5), "d")]
    assert stacked(x[:0], y[:0], []) == []
