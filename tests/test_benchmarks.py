"""Benchmarks are run by hand; a change elsewhere must not leave one that no longer starts."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = sorted(Path("tests/benchmarks").rglob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=str)
def test_a_benchmark_finds_what_it_imports(path):
    pytest.importorskip("ray", reason="needs the extra cluster")
    importlib.import_module(".".join(path.with_suffix("").parts))
