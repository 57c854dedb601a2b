from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.geo import great_circle_km
from stages.params import PARAMS_FILE
from stages.variogram.__main__ import main
from stages.variogram.empirical import estimate, lag_edges_km
from stages.variogram.fit import fit
from stages.variogram.groups import GROUPINGS, Group, fit_groups, groups_table, latitude_bands, note, rows_by_group
from stages.variogram.plot import groups_figure

NAMES = ["exponential"]


@pytest.fixture
def two_halves(scatter, simulate):
    """Photos (n,) of two countries whose looks change over 200 and over 2000 km, and a few of a third."""
    latitude, longitude = scatter(900, 4)
    features = simulate(latitude, longitude, 0.15, [(0.45, 200.0)], 1)
    far = simulate(latitude, longitude, 0.15, [(0.45, 2000.0)], 2)
    is_far = np.random.default_rng(0).random(900) < 0.5
    country = np.where(is_far, "FA", "NE").astype(object)
    country[:20], country[20:25] = "XX", None
    return latitude, longitude, np.where(is_far[:, None], far, features), country.tolist()


def test_bands_are_30_degrees_wide_and_the_poles_belong_to_the_last_ones():
    latitude = np.array([-90.0, -60.0, -30.1, -1e-9, 0.0, 29.9, 30.0, 60.0, 90.0])
    assert latitude_bands(latitude) == [
        "90°S to 60°S",
        "60°S to 30°S",
        "60°S to 30°S",
        "30°S to 0°",
        "0° to 30°N",
        "0° to 30°N",
        "30°N to 60°N",
        "60°N to 90°N",
        "60°N to 90°N",
    ]
    assert latitude_bands(np.array([])) == []
    assert GROUPINGS["latitude"](pl.DataFrame({"latitude": latitude})) == latitude_bands(latitude)


def test_groups_come_by_size_and_then_by_name_and_none_is_no_group():
    rows = rows_by_group(["b", "a", None, "c", "b", "a"])
    assert list(rows) == ["a", "b", "c"]
    assert [group.tolist() for group in rows.values()] == [[1, 5], [0, 4], [3]]
    assert rows_by_group([]) == {}


def test_each_group_has_the_semivariogram_of_its_own_photos(two_halves):
    latitude, longitude, features, country = two_halves
    edges_km = lag_edges_km(0.1, 40)
    estimate_photos = partial(estimate, latitude, longitude, features, edges_km=edges_km)
    groups, warnings = fit_groups(country, lambda rows: estimate_photos(photos=rows), NAMES)
    by_name = {group.name: group for group in groups}
    assert set(by_name) == {"FA", "NE"}
    assert by_name["NE"].range_km < 400 < 1000 < by_name["FA"].range_km
    assert warnings == [
        "1 of 3 groups (XX) have fewer than 100 photos, or fewer than 5 lag bins with 30 pairs, and are left out",
        "5 of 900 photos belong to no group",
    ]
    is_near = np.array([name == "NE" for name in country])
    alone = estimate(latitude[is_near], longitude[is_near], features[is_near], edges_km=edges_km)
    np.testing.assert_array_equal(by_name["NE"].empirical.n_pairs, alone.n_pairs)
    np.testing.assert_allclose(by_name["NE"].empirical.semivariance, alone.semivariance, rtol=1e-12)


def test_the_table_says_what_a_range_must_not_be_taken_for(two_halves, scatter):
    latitude, longitude, features, _ = two_halves
    edges_km = lag_edges_km(0.1, 40)
    empirical = estimate(latitude, longitude, features, edges_km=edges_km)
    whole = Group("all photos", 900, empirical, fit(empirical, NAMES))
    is_near = great_circle_km(latitude[:, None], longitude[:, None], latitude, longitude) < 100
    near_rows = np.flatnonzero(is_near[is_near.sum(axis=1).argmax()])
    near = estimate(latitude, longitude, features, edges_km=edges_km, photos=near_rows)
    noise = estimate(latitude, longitude, np.random.default_rng(1).normal(size=(900, 64)), edges_km=edges_km)
    groups = [
        Group("here", len(near_rows), near, fit(near, NAMES)),
        Group("noise", 900, noise, fit(noise, NAMES)),
    ]
    table = groups_table(groups, whole)
    assert table["group"].to_list() == ["all photos", "here", "noise"]
    assert table["note"][0] == ""
    assert "lags end at" in table["note"][1] or "range not reached" in table["note"][1]
    assert table["note"][2] == "no spatial structure"
    assert table["range_km"][2] is None
    assert table["pairs"].to_list() == [int(group.empirical.n_pairs.sum()) for group in [whole, *groups]]


def test_a_range_whose_two_errors_reach_0_is_called_uncertain(two_halves):
    latitude, longitude, features, _ = two_halves
    empirical = estimate(latitude, longitude, features, edges_km=lag_edges_km(0.1, 40))
    model = fit(empirical, NAMES)
    for share, expected in ((0.4, ""), (0.6, "range is uncertain")):
        errors = model.standard_errors | {"range_km": share * model.range_km}
        group = Group("here", 900, empirical, replace(model, standard_errors=errors))
        assert note(group, group) == expected
    assert f"± {group.range_se_km:,.0f} km" in groups_figure([group], group).legends[0].texts[0].get_text()


@pytest.fixture
def project(tmp_path, monkeypatch, write_features, two_halves):
    latitude, longitude, features, country = two_halves
    params = PARAMS_FILE.read_text().replace("[exponential, spherical, stable, matern, nested]", "[exponential]")
    (tmp_path / "params.yaml").write_text(params)
    monkeypatch.chdir(tmp_path)
    write_features(Path("data/world/features/train/00000.arrow"), latitude, longitude, features, country=country)


def group_by(name):
    text = Path("params.yaml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("  groups:"))
    Path("params.yaml").write_text(text.replace(line, f"  groups: {name}"))
    main()


def test_the_stage_writes_the_groups_and_leaves_none_behind(project, capsys):
    table, figure, pdf = (Path(f"reports/variogram/groups.{suffix}") for suffix in ("csv", "png", "pdf"))
    group_by("country")
    assert pl.read_csv(table)["group"].to_list() == ["all photos", "NE", "FA"]
    out = capsys.readouterr().out
    assert "Semivariograms by country" in out
    assert "5 of 900 photos belong to no group" in " ".join(out.replace("│", " ").split())
    first = table.read_bytes(), figure.read_bytes()
    main()
    assert (table.read_bytes(), figure.read_bytes()) == first
    group_by("none")
    assert not table.exists()
    assert not figure.exists()
    assert not pdf.exists()
