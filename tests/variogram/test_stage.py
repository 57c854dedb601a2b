from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.cli import InputError
from stages.variogram.__main__ import main
from stages.variogram.models import read_model


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project folder with params.yaml, the working folder."""
    (tmp_path / "params.yaml").write_text(Path("params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = Path("data/world/features/train/00000.arrow")


def test_the_stage_writes_model_tables_and_figures_and_the_same_bytes_again(
    project, write_features, scatter, simulate, capsys
):
    latitude, longitude = scatter(900, 1)
    features = simulate(latitude, longitude, 0.15, [(0.45, 500.0)], 1)
    sequence = [f"drive {row // 5}" for row in range(900)]
    write_features(TRAIN, latitude, longitude, features, sequence=sequence)
    main()
    written = sorted(path for folder in ("data/variogram", "reports") for path in (project / folder).rglob("*.*"))
    figures = [f"{name}.{suffix}" for name in ("negatives", "semivariogram") for suffix in ("pdf", "png")]
    names = ["model.json", "empirical.csv", "example_pairs.csv", "fitted.csv", *figures]
    assert [path.name for path in written] == names
    assert "chosen" in capsys.readouterr().out
    first = [path.read_bytes() for path in written]
    main()
    assert [path.read_bytes() for path in written] == first

    model, empirical = read_model(written[0]), pl.read_csv(written[1])
    assert empirical.columns == (
        ["lag_from_km", "lag_to_km", "lag_km", "semivariance", "std", "n_pairs", "se_sampling", "se_block"]
    )
    assert empirical["n_pairs"].sum() == 900 * 899 // 2
    fitted = pl.read_csv(written[3])
    np.testing.assert_allclose(fitted["semivariance"], model.semivariance_at(fitted["lag_km"].to_numpy()))
    check_examples(pl.read_csv(written[2]), model, sequence)


def check_examples(pairs, model, sequence):
    assert set(pairs["kind"]) == {"hard_negative", "false_negative"}
    for (kind,), of_kind in pairs.group_by("kind"):
        assert ((of_kind["lag_km"] > model.range_km) == (kind == "hard_negative")).all()
        photos = [*of_kind["id_a"], *of_kind["id_b"]]
        drives = [sequence[photo] for photo in photos]
        assert len(set(drives)) == len(drives)
        assert (of_kind["z"] > 0).all()
        z, correlation = of_kind["z"].to_numpy(), model.correlation_at(of_kind["lag_km"].to_numpy())
        strength = z if kind == "hard_negative" else correlation / (1 + np.exp(-z))
        assert (np.diff(strength) <= 1e-3).all()  # the stage reads the curves off a table
    np.testing.assert_allclose(pairs["expected_distance"], model.semivariance_at(pairs["lag_km"].to_numpy()), rtol=1e-3)


def test_features_without_structure_have_no_examples_and_still_figures(project, write_features, scatter):
    latitude, longitude = scatter(600, 2)
    features = np.random.default_rng(0).normal(size=(600, 64))
    write_features(TRAIN, latitude, longitude, features)
    main()
    assert read_model(project / "data/variogram/model.json").name == "nugget"
    assert len(pl.read_csv(project / "reports/variogram/example_pairs.csv")) == 0
    assert (project / "reports/variogram/negatives.png").exists()


def test_missing_features_say_what_to_run(project):
    with pytest.raises(InputError, match="run the features stage first"):
        main()


def test_a_model_that_is_refused_is_found_before_anything_is_read(project):
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("[exponential, spherical,", "[exponential, gaussian,"))
    with pytest.raises(InputError, match="'gaussian' is refused"):
        main()
