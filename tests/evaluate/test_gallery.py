import numpy as np
import pytest
import torch

from stages import geo
from stages.cli import InputError
from stages.evaluate import gallery


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "gallery.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_gallery_is_read_in_its_order_whatever_else_it_holds(csv):
    latitude, longitude = gallery.read_gallery(csv("name,LON,LAT\nNadi,178.5,-17\nthe pole, -180 ,90\n"))
    assert latitude.tolist() == [-17, 90]
    assert longitude.tolist() == [178.5, -180]


@pytest.mark.parametrize("header", ["lat,lon", "Lat, LON ", "LAT,LON", "lat,lon,LAT"])
def test_the_case_of_the_header_does_not_matter(csv, header):
    latitude, longitude = gallery.read_gallery(csv(f"{header}\n1,2{',3' if header.count(',') == 2 else ''}\n"))
    assert (latitude.tolist(), longitude.tolist()) == ([1], [2])


def test_a_place_that_stands_there_twice_is_one_in_its_first_row(csv):
    latitude, longitude = gallery.read_gallery(
        csv("LAT,LON,name\n3,4,a\n1,2,b\n3.0,4,c\n3,5,d\n1,2,b\n0,-0.0,e\n0,0,f\n")
    )
    assert latitude.tolist() == [3, 1, 3, 0]
    assert longitude.tolist() == [4, 2, 5, 0]


def test_empty_rows_are_no_places_and_are_counted_in_the_number_of_a_bad_one(csv):
    latitude, longitude = gallery.read_gallery(csv("LAT,LON\r\n1,2\r\n\r\n,\r\n  \r\n3,4\r\n\r\n"))
    assert (latitude.tolist(), longitude.tolist()) == ([1, 3], [2, 4])
    with pytest.raises(InputError, match="LAT 95 in row 3 of"):
        gallery.read_gallery(csv("LAT,LON\n1,2\n\n95,4\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"gallery.csv can't be read \(empty CSV\); a gallery is a CSV in UTF-8 with LAT,LON in its first line"),
        (b"LAT,LON,name\n1,2,Z\xfcrich\n", r"can't be read \(invalid utf-8 sequence\); a gallery is a CSV in UTF-8"),
        ("LAT,LON\n1,2\n3,4,5\n", "can't be read .*more fields than .* as many cells in every row: save it as one"),
        ("LAT,LON\n1,2\n3\n", "LON None in row 2"),
        ("LAT;LON\n1;2\n", "has the columns LAT;LON; a gallery has LAT,LON in its first line"),
        ("LAT,LON\n", "holds no place"),
        ("LAT,LON\n\n\n", "holds no place"),
        ("LAT,LON\n1,2\n91.3,0\n", r"LAT 91.3 in row 2 of .*gallery.csv is not a number in \[-90, 90\]"),
        ("LAT,LON\n1,-180.1\n", r"LON -180.1 in row 1 .*\[-180, 180\]; is the column order LAT,LON"),
        ("LAT,LON\n1,2\n3,east\n", "LON east in row 2"),
        ("LAT,LON\n1,2\nnan,4\n", "LAT nan in row 2"),
        ("LAT,LON\n1,2\n,4\n", "LAT None in row 2"),
    ],
)
def test_a_bad_gallery_is_named_with_its_row(csv, text, message):
    with pytest.raises(InputError, match=message):
        gallery.read_gallery(csv(text))


def test_a_missing_gallery_is_named(tmp_path):
    with pytest.raises(InputError, match="gallery .*nowhere.csv is missing; evaluate.gallery is 'train' or a CSV"):
        gallery.read_gallery(tmp_path / "nowhere.csv")


def test_a_sample_is_drawn_without_replacement_in_order_by_its_seed():
    whole = np.arange(50.0), np.arange(50.0) + 100
    latitude, longitude = gallery.sample(whole, 20, seed=3)
    assert len(set(latitude)) == 20
    assert (np.diff(latitude) > 0).all()
    np.testing.assert_array_equal(longitude, latitude + 100)
    np.testing.assert_array_equal(gallery.sample(whole, 20, seed=3)[0], latitude)
    assert gallery.sample(whole, 20, seed=4)[0].tolist() != latitude.tolist()


@pytest.mark.parametrize("size", [0, 50, 51])
def test_a_sample_of_size_0_or_of_all_is_the_gallery(size):
    whole = np.arange(50.0), np.zeros(50)
    assert gallery.sample(whole, size, seed=0) is whole


def test_photos_are_located_at_the_nearest_places_of_the_gallery(model, monkeypatch):
    monkeypatch.setattr(gallery, "GALLERY_CHUNK", 64)
    monkeypatch.setattr(gallery, "PHOTO_CHUNK", 9)
    rng = np.random.default_rng(0)
    places = np.degrees(np.arcsin(rng.uniform(-1, 1, 200))), rng.uniform(-180, 180, 200)
    photos = np.array([89.0, -5.0, 0.0] * 7), np.array([0.0, 179.9, -179.9] * 7)
    queries = gallery.embed_photos(model, geo.unit_vectors(*photos))
    top = gallery.locate(model, queries, places, gallery.embed_places(model, *places), 3)
    km = geo.great_circle_km(photos[0][:, None], photos[1][:, None], *places)
    nearest = np.argsort(km, axis=1)[:, :3]
    np.testing.assert_array_equal(top.latitude, places[0][nearest])
    np.testing.assert_array_equal(top.longitude, places[1][nearest])
    softmax = torch.softmax(torch.from_numpy(50 * np.cos(km / geo.EARTH_RADIUS_KM)), dim=1).numpy()
    np.testing.assert_allclose(top.probability, np.take_along_axis(softmax, nearest, axis=1), rtol=1e-3)


def test_features_of_another_encoder_are_refused(model):
    with pytest.raises(
        InputError, match="the features are 7 wide, the model takes 3; it was trained on another encoder"
    ):
        gallery.embed_photos(model, np.zeros((2, 7), np.float32))


def test_a_model_that_diverged_is_refused(model):
    with pytest.raises(InputError, match="hold NaN or infinity, its training diverged; lower train.learning_rate"):
        gallery.embed_photos(model, np.full((1, 3), np.nan, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_location_encoder_that_diverged_is_refused(model, monkeypatch, value):
    places = np.zeros(3), np.array([0.0, 1.0, 2.0])
    embed = type(model).place_embedding
    monkeypatch.setattr(gallery, "GALLERY_CHUNK", 2)
    monkeypatch.setattr(
        type(model), "place_embedding", lambda *of: embed(*of).masked_fill((of[2] == 2)[:, None], value)
    )
    chunks = gallery.embed_places(model, *places)
    assert len(next(chunks)) == 2
    with pytest.raises(InputError, match="hold NaN or infinity, its training diverged; lower train.learning_rate"):
        next(chunks)
