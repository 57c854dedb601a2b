import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from stages.cli import InputError
from stages.geo import coordinates
from stages.study import __main__ as command
from stages.study.__main__ import main

SMALL = {
    "epochs": 6,
    "batch_size": 20,
    "learning_rate": 0.01,
    "embedding_width": 8,
    "hidden_width": 32,
    "sigmas": [1.0],
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch, write_features):
    """A folder with params and photos whose features are their unit vectors: a few epochs learn where they are."""
    shutil.copy("params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    whole = command.load_params()
    monkeypatch.setattr(
        command, "load_params", lambda: whole.model_copy(update={"train": whole.train.model_copy(update=SMALL)})
    )
    for split, n, seed in (("train", 100, 1), ("val", 20, 2), ("test", 30, 3)):
        vectors = np.random.default_rng(seed).normal(size=(n, 3))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        write_features(Path(f"data/world/features/{split}/00000.arrow"), *coordinates(vectors), vectors)
    Path("data/world/features/encoder.json").write_text('{"center": null}')


def test_variants_are_trained_with_every_seed_and_compared_with_the_first(capsys):
    main(["infonce", "hard_negative:beta=0", "hard_negative:beta=2"], seeds=2)
    by_run = pl.read_csv("reports/study/accuracy.csv")
    assert by_run.select("variant", "seed").rows() == [
        (variant, seed) for variant in ("infonce", "hard_negative:beta=0", "hard_negative:beta=2") for seed in (1, 2)
    ]
    differences = pl.read_csv("reports/study/differences.csv")
    # At beta 0 the loss is infonce, and equal seeds start and shuffle alike.
    assert (differences.filter(variant="hard_negative:beta=0")["difference"] == 0).all()
    assert (differences.filter(variant="hard_negative:beta=2")["difference"] != 0).any()
    assert by_run["accuracy_2500km"].mean() > 0.08  # a random place: 0.04
    assert Path("reports/study/differences.png").stat().st_size > 10_000
    assert "Difference from infonce, points" in capsys.readouterr().out


def test_a_run_that_was_made_is_not_made_again(monkeypatch):
    main(["infonce", "hard_negative"], seeds=1)
    first = Path("reports/study/accuracy.csv").read_bytes()
    monkeypatch.setattr(command, "train", None)
    main(["infonce", "hard_negative"], seeds=1)
    assert Path("reports/study/accuracy.csv").read_bytes() == first


@pytest.mark.parametrize("variants", [["infonce"], ["infonce", "infonce"]])
def test_a_study_of_one_is_refused(variants):
    with pytest.raises(InputError, match="a study compares two or more different variants"):
        main(variants)
