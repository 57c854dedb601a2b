import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from stages.cli import InputError
from stages.features.encoder import read_encoder
from stages.predict import __main__ as command
from stages.predict.figures import stacked

PLACES = {"Nairobi": (-1.3, 36.8), "Quito": (-0.2, -78.5), "Nadi": (-17.8, 177.4), "Alert": (82.5, -62.3)}
TOWNS = "lat,lon,name,admin1,admin2,cc\n-1.3,36.8,Nairobi,Nairobi,,KE\n-0.2,-78.5,Quito,Pichincha,Quito,EC\n"
RELEASE, GEOGRAPHY = Path("data/models/semivariogram"), Path("data/world/raw/geography")
CONFIG = {
    "model_type": "geoclip-geolocation",
    "format_version": 1,
    "gallery_file": "gallery.csv",
    "source": "world",
    "encoder": {"model": "colour", "short_side_px": 4},
}
COASTLINES = "line,latitude,longitude\n0,-30,20\n0,10,50\n1,60,179\n1,61,-179\n"


def write_config(**changes):
    (RELEASE / "config.json").write_text(json.dumps(CONFIG | changes))


@pytest.fixture
def predict(tmp_path, monkeypatch, model, encoder):
    """The command, with its defaults, in a folder as the pipeline leaves it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(command, "read_encoder", lambda facts: (encoder, None))
    monkeypatch.setattr(command, "load_release", lambda folder: model)
    GEOGRAPHY.mkdir(parents=True)
    (GEOGRAPHY / "places.csv").write_text(TOWNS)
    (GEOGRAPHY / "coastlines.csv").write_text(COASTLINES)
    RELEASE.mkdir(parents=True)
    (RELEASE / "model.safetensors").touch()
    write_config()
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
    assert list(rows[0])[4:] == ["probability", "probability_25km", "country", "region", "sub_region", "city"]


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
            near = {key: pytest.approx(its[key], abs=2e-6) for key in ("probability", "probability_25km")}
            assert place == its | near


def test_a_map_of_an_unknown_kind_is_refused_before_any_work(predict):
    with pytest.raises(InputError, match="--map out.gif: a map ends in one of .png, .svg, .pdf"):
        predict("photo.png", map_file=Path("out.gif"))


def test_a_model_that_was_not_trained_is_named_with_the_way_out(predict):
    with pytest.raises(InputError, match="data/models/other is missing; train it first: dvc repro train@other"):
        predict("photo.png", model=Path("data/models/other"))


def test_photos_are_embedded_as_the_release_says_whatever_the_params_and_features_say(
    predict, take_photo, monkeypatch, encoder
):
    Path("params.yaml").write_text("data: {source: hub}")
    told, sides = [], []
    monkeypatch.setattr(command, "read_encoder", lambda facts: told.append(facts) or (encoder, None))
    read_photo = command.read_photo
    monkeypatch.setattr(command, "read_photo", lambda path, side: sides.append(side) or read_photo(path, side))
    predict(take_photo(Path("photo.png"), 0, 0))
    assert (told, sides) == ([CONFIG["encoder"]], [4])


@pytest.fixture
def no_embedding(monkeypatch):
    """Fails the test if a photo is embedded: what is wrong with a release is to be found before."""
    monkeypatch.setattr(command, "embed", lambda *_, **__: pytest.fail("a photo was embedded"))


def test_a_release_of_others_that_does_not_say_its_encoder_is_refused_with_a_way_out(predict, no_embedding):
    config = {key: value for key, value in CONFIG.items() if key != "encoder"}
    (RELEASE / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="config.json has no section 'encoder', .* for example geoclip, or train from"):
        predict("photo.png")


def test_an_encoder_that_cannot_be_had_is_named_with_the_release_that_wants_it(predict, monkeypatch):
    monkeypatch.setattr(command, "read_encoder", read_encoder)
    write_config(encoder={"model": "ViT-Q", "pretrained": "openai", "seed": 1, "center": None})
    with pytest.raises(InputError, match="config.json names an encoder that cannot be made: .*'ViT-Q' is no open_clip"):
        predict("photo.png")


def test_a_folder_that_is_no_release_is_named(predict):
    (RELEASE / "config.json").unlink()
    with pytest.raises(InputError, match="data/models/semivariogram is no GeoCLIP release"):
        predict("photo.png")


def test_a_release_without_its_gallery_is_named_with_the_file(predict, no_embedding):
    write_config(gallery_file="mine.csv")
    with pytest.raises(InputError, match="semivariogram/mine.csv is missing; .*config.json names.*copy it there"):
        predict("photo.png")


def test_the_gallery_is_the_file_that_the_config_names(predict, take_photo, capsys):
    write_config(gallery_file="mine.csv")
    (RELEASE / "mine.csv").write_text("LAT,LON\n5,6\n")
    predict(take_photo(Path("photo.png"), 0, 0), as_json=True)
    assert [place["latitude"] for place in json.loads(capsys.readouterr().out)[0]["places"]] == [5]


def test_without_towns_places_have_no_names_and_stderr_says_so(predict, take_photo, capsys):
    (GEOGRAPHY / "places.csv").unlink()
    photo = take_photo(Path("photo.png"), -1, 37)
    predict(photo, as_json=True, map_file=Path("out.svg"))
    out, err = capsys.readouterr()
    assert "places have no names, because data/world/raw/geography/places.csv is missing" in err
    assert json.loads(out)[0]["places"][0]["city"] is None
    predict(photo)
    assert "-1.30000" in capsys.readouterr().out


def test_a_map_of_a_world_without_its_coastlines_is_refused(predict, no_embedding):
    (GEOGRAPHY / "coastlines.csv").unlink()
    with pytest.raises(InputError, match="--map: .*/world/raw/geography/coastlines.csv is missing; .*repro download"):
        predict("photo.png", map_file=Path("out.png"))


def test_a_release_of_real_photos_stands_alone(predict, take_photo, capsys):
    """Away from the pipeline's folder, with the Earth's towns and coastlines, which come with the package."""
    write_config(source="hub")
    shutil.move(RELEASE, "downloaded")
    shutil.rmtree("data")
    photo = take_photo(Path("photo.png"), -1.3, 36.8)
    predict(photo, model=Path("downloaded"), map_file=Path("out.png"), as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["places"][0]["country"] == "KE"
    assert "no names" not in err
    assert Path("out.png").exists()


def test_a_cache_that_cannot_be_written_costs_only_time(predict, take_photo, capsys, monkeypatch, model):
    monkeypatch.setattr(command, "LOT", 2)
    for number in range(5):
        take_photo(Path(f"album/{number}.png"), 10 * number, 0)
    predict("album")
    expected, _ = capsys.readouterr()
    Path("file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("file").resolve()))
    model.n_embedded = 0
    predict("album")
    out, err = capsys.readouterr()
    assert out == expected
    assert "the gallery's embeddings are not kept for the next command: " in err
    assert model.n_embedded == len(PLACES)  # once, not for each lot


def test_a_run_that_is_stopped_keeps_the_rows_of_the_photos_before(predict, take_photo, capsys, monkeypatch):
    monkeypatch.setattr(command, "LOT", 2)
    for number in range(5):
        take_photo(Path(f"album/{number}.png"), 10 * number, 0)
    read_photo = command.read_photo

    def stopped_at_4(path, side):
        if path.stem == "4":
            raise KeyboardInterrupt
        return read_photo(path, side)

    predict("album", top_k=1)
    whole = capsys.readouterr().out.splitlines()
    monkeypatch.setattr(command, "read_photo", stopped_at_4)
    with pytest.raises(KeyboardInterrupt):
        predict("album", top_k=1)
    kept = capsys.readouterr().out.splitlines()
    assert len(kept) == 1 + 4
    assert kept == whole[:5]


def test_names_with_dollars_and_bytes_that_are_no_text_are_shown(predict, take_photo, capsys):
    names = (b"$\\foo$.png", b"caf\xe9.png", b"caf\xe8.png")
    photos = [take_photo(Path(os.fsdecode(name)), 10 * i, 0) for i, name in enumerate(names)]
    predict(*photos, map_file=Path("many.png"), top_k=1)
    out = capsys.readouterr().out
    assert [line.split(",")[0] for line in out.splitlines()[1:]] == ["$\\foo$.png", "caf�.png", "caf�.png"]
    predict(photos[0], map_file=Path("one.png"))
    capsys.readouterr()
    predict(*photos[1:], as_json=True, map_file=Path("two.png"))
    assert [answer["photo"] for answer in json.loads(capsys.readouterr().out)] == ["caf�.png", "caf�.png"]


def test_the_features_mean_is_subtracted_as_in_training(predict, take_photo, monkeypatch, encoder, capsys):
    photo = take_photo(Path("photo.png"), -1.3, 36.8)
    mean = encoder.encode(encoder.preprocess(Image.open(photo))) * 2  # what is left points to the antipode, near Nadi
    monkeypatch.setattr(command, "read_encoder", lambda facts: (encoder, mean))
    predict(photo, as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["places"][0]["longitude"] == PLACES["Nadi"][1]


def test_names_that_would_hide_each_other_stand_in_lines_at_the_uppermost_point():
    x, y = np.array([0.0, 0.1, 2.0, 0.2]), np.array([0.0, 0.05, 0.0, -0.5])
    assert stacked(x, y, ["a", "b", "c", "d"]) == [((0.1, 0.05), "b\na"), ((2.0, 0.0), "c"), ((0.2, -0.5), "d")]
    assert stacked(x[:0], y[:0], []) == []
