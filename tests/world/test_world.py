import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import stages.world
from stages.params import World
from stages.world import archives, write_world

PARAMS = World(seed=4, n_train=150, n_test=20, height_px=32)

# OSV5M's header, as published.
HEADER = (
    "id,latitude,longitude,thumb_original_url,country,sequence,captured_at,lon_bin,lat_bin,cell,region,sub-region,city,"
    "land_cover,road_index,drive_side,climate,soil,dist_sea,quadtree_10_5000,quadtree_10_25000,quadtree_10_1000,"
    "quadtree_10_50000,quadtree_10_12500,quadtree_10_500,quadtree_10_2500,unique_region,unique_sub-region,unique_city,"
    "unique_country,creator_username,creator_id"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    before = stages.world.PHOTOS_AN_ARCHIVE
    stages.world.PHOTOS_AN_ARCHIVE = 100
    write_world(PARAMS, folder)
    yield folder
    stages.world.PHOTOS_AN_ARCHIVE = before


def read(world, split):
    return pl.read_csv(world / f"{split}.csv", infer_schema=False)


def ids_in(world, split):
    paths = sorted((world / "images" / split).iterdir())
    return [Path(name).stem for path in paths for name in zipfile.ZipFile(path).namelist()]


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_world_has_osv5ms_layout(world):
    assert sorted(contents(world)) == [
        "geography/coastlines.csv",
        "geography/places.csv",
        "geography/truth.json",
        "images/test/00.zip",
        "images/train/00.zip",
        "images/train/01.zip",
        "test.csv",
        "train.csv",
    ]
    for split in ("train", "test"):
        assert (world / f"{split}.csv").read_text().splitlines()[0] == HEADER
    with zipfile.ZipFile(world / "images" / "train" / "01.zip") as archive:
        for member in archive.infolist():
            assert member.filename.startswith("01/")
            assert member.compress_type == zipfile.ZIP_STORED
            assert member.date_time == (1980, 1, 1, 0, 0, 0)
        image = Image.open(archive.open(archive.namelist()[0]))
        assert (image.format, image.size, image.mode) == ("JPEG", (43, 32), "RGB")


def test_nearly_every_row_has_its_image_and_ids_differ(world):
    for split, n in (("train", 150), ("test", 20)):
        rows, images = read(world, split)["id"].to_list(), ids_in(world, split)
        assert len(set(rows)) == len(rows)
        assert len(set(images)) == len(images)
        assert len(set(rows) & set(images)) == n
        assert len(set(rows) - set(images)) == len(set(images) - set(rows)) == 1
        assert all(name.isdigit() and len(name) <= 17 for name in rows)
    assert not set(ids_in(world, "train")) & set(ids_in(world, "test"))


def test_no_sequence_is_in_both_splits(world):
    assert not set(read(world, "train")["sequence"]) & set(read(world, "test")["sequence"])


def test_a_photos_areas_are_those_of_the_nearest_town(world):
    rows, towns = read(world, "train"), pl.read_csv(world / "geography" / "places.csv")
    assert towns.columns == ["lat", "lon", "name", "admin1", "admin2", "cc"]
    for row in rows.head(40).iter_rows(named=True):
        phi, lam = np.radians(float(row["latitude"])), np.radians(float(row["longitude"]))
        town_phi, town_lam = np.radians(towns["lat"].to_numpy()), np.radians(towns["lon"].to_numpy())
        cosine = np.sin(phi) * np.sin(town_phi) + np.cos(phi) * np.cos(town_phi) * np.cos(lam - town_lam)
        town = towns.row(int(cosine.argmax()), named=True)
        assert (row["city"], row["region"], row["sub-region"], row["country"]) == (
            town["name"],
            town["admin1"],
            town["admin2"],
            town["cc"],
        )
        sub_region = row["sub-region"] or "NaN"
        assert row["unique_country"] == row["country"]
        assert row["unique_region"] == f"{row['region']}_{row['country']}"
        assert row["unique_city"] == f"{row['city']}_{sub_region}_{row['region']}_{row['country']}"


def test_truth_names_every_latents_ranges_and_variances(world):
    truth = json.loads((world / "geography" / "truth.json").read_text())
    assert {"vegetation_kind", "building_height"} <= {latent["name"] for latent in truth["latents"]}
    assert all(set(latent) == {"name", "ranges_km", "variances"} for latent in truth["latents"])


def test_a_world_goes_on_where_it_was_killed_and_ends_with_the_same_bytes(world, tmp_path, monkeypatch):
    whole = contents(world)
    drawn = []
    # One process instead of many: the bytes must not tell.
    monkeypatch.setattr(
        stages.world, "write_archives", lambda todo: [drawn.append(archives.write_archive(a)) for a in todo]
    )
    lost = world / "images" / "train" / "00.zip"
    kept = (world / "images" / "train" / "01.zip").stat().st_mtime_ns
    lost.unlink()
    write_world(PARAMS, world)
    assert len(drawn) == 1
    assert contents(world) == whole
    assert (world / "images" / "train" / "01.zip").stat().st_mtime_ns == kept
