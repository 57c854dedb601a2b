"""Benchmarks are run by hand; a change elsewhere must not leave one that no longer runs."""

import importlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.benchmarks import evaluate, features, train

BENCHMARKS = sorted(Path("tests/benchmarks").rglob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=str)
def test_a_benchmark_finds_what_it_imports(path):
    pytest.importorskip("ray", reason="needs the extra cluster")
    importlib.import_module(".".join(path.with_suffix("").parts))


def shrink(monkeypatch, benchmark, **sizes):
    for name, size in sizes.items():
        monkeypatch.setattr(benchmark, name, size)


@pytest.mark.filterwarnings("ignore")  # geoclip's, where it is installed
def test_the_benchmark_of_evaluation_runs(monkeypatch, capsys):
    shrink(monkeypatch, evaluate, N_GALLERY=300, N_QUERIES=(20, 40), N_PEER=8, N_REFINED=8)
    shrink(monkeypatch, evaluate, OSV5M_QUERIES=50, OSV5M_GALLERY=600, OSV5M_CHUNKS=2, GALLERY_CHUNK=256)
    # A process of its own would have the sizes as they are.
    monkeypatch.setattr(evaluate, "ProcessPoolExecutor", lambda n, mp_context: ThreadPoolExecutor(n))
    evaluate.main()
    assert "50 x 600: evaluation, extrapolated" in capsys.readouterr().out


def test_the_benchmark_of_features_runs(monkeypatch, capsys):
    shrink(monkeypatch, features, CASES=(("varioclip-tiny", (32, 24), 4, 2),), N_REPEATS=1)
    features.main()
    assert "32 x 24: plain loop" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")  # geoclip's, where it is installed
def test_the_benchmark_of_a_training_step_runs(monkeypatch, capsys):
    shrink(monkeypatch, train, N_ROUNDS=1, RECIPE={"batch_size": 16, "queue_size": 32})
    train.speed()
    assert capsys.readouterr().out.count("semivariogram") == 2
