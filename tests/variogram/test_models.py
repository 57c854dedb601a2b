import dataclasses
import json

import gstools
import numpy as np
import pytest
import skgstat.models

from stages.cli import InputError
from stages.variogram.models import (
    MODELS,
    Semivariogram,
    check_models,
    matern,
    nested,
    practical_x,
    read_model,
    spherical,
    stable,
    write_model,
)

SHAPES = {
    "exponential": {},
    "spherical": {},
    "stable": {"alpha": 0.6},
    "matern": {"nu": 0.3},
    "nested": {"short_share": 0.4, "short_ratio": 0.01},
}
LAG_KM = np.append(0, np.geomspace(0.01, 20000, 500))


def semivariogram(name, shape, **changes):
    k = 12
    facts = {
        "name": name, "nugget": 0.15, "partial_sill": 0.45, "range_km": 500.0, "shape": shape,
        "standard_errors": {"nugget": 0.01, "range_km": None}, "weighted_rmse": 0.01, "r2": 0.9,
        "lag_km": np.geomspace(0.05, 15000, k), "semivariance": np.linspace(0.2, 0.6, k),
        "std": np.linspace(0.05, 0.15, k), "n_pairs": np.arange(k) + 30,
        "se_block": np.append(np.nan, np.full(k - 1, 0.02)), "se_model": np.full(k, 0.01),
        "reason": "a reason", "warnings": ("a warning",), "candidates": ({"name": name, "aicc": None},),
    }  # fmt: skip
    return Semivariogram(**(facts | changes))


@pytest.mark.parametrize("name", MODELS)
def test_range_is_where_95_percent_of_the_partial_sill_is_reached(name):
    model = semivariogram(name, SHAPES[name])
    at_range, before, far = model.semivariance_at(np.array([500.0, 499.9, 1e9]))
    np.testing.assert_allclose(at_range, 0.15 + 0.95 * 0.45, rtol=1e-9)
    assert before < at_range
    np.testing.assert_allclose(far, model.sill, rtol=1e-3)
    assert model.semivariance_at(np.array(0.0)) == 0.15
    np.testing.assert_allclose(model.correlation_at(np.array([0.0, 500.0])), [1, 0.05], rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_models_rise(name):
    share = semivariogram(name, SHAPES[name]).share_at(LAG_KM)
    assert (np.diff(share) >= 0).all()
    assert share[0] == 0
    assert share[-1] <= 1


@pytest.mark.parametrize("name", MODELS)
def test_models_are_valid_on_the_sphere(name):
    # Schoenberg (1942): a covariance is positive definite on the sphere if its Legendre coefficients are >= 0.
    model = MODELS[name]
    cosine, weight = np.polynomial.legendre.leggauss(1000)
    theta, legendre = np.arccos(cosine), np.polynomial.legendre.legvander(cosine, 40)
    for shape in (
        SHAPES[name],
        dict(zip(model.shape_bounds, (b for _, b in model.shape_bounds.values()), strict=True)),
    ):
        for scale in (0.05, 0.5, 2.0):
            covariance = 1 - model.share(theta / scale, **shape)
            assert (weight * covariance @ legendre).min() > -1e-6


def test_a_gaussian_is_not():
    cosine, weight = np.polynomial.legendre.leggauss(1000)
    covariance = np.exp(-((np.arccos(cosine) / 2) ** 2))
    assert (weight * covariance @ np.polynomial.legendre.legvander(cosine, 40)).min() < -1e-6


def test_formulas_are_those_of_other_libraries():
    x = np.geomspace(1e-3, 5, 50)
    # scikit-gstat scales by its effective range: stable (r / 3^(1/s)), Matérn (r / 2).
    np.testing.assert_allclose(spherical(x), [skgstat.models.spherical(h, 1, 1) for h in x])
    np.testing.assert_allclose(stable(x, 0.7), [skgstat.models.stable(h, 3 ** (1 / 0.7), 1, 0.7) for h in x])
    theirs = gstools.Matern(dim=2, nu=0.4, rescale=0.4**-0.5).variogram(x)  # its argument has a factor sqrt(ν)
    np.testing.assert_allclose(matern(x, 0.4), theirs, rtol=1e-9)
    np.testing.assert_allclose(matern(x, 0.5), MODELS["exponential"].share(x), rtol=1e-9)
    np.testing.assert_allclose(stable(x, 1.0), MODELS["exponential"].share(x))
    np.testing.assert_allclose(nested(x, 0.3, 1.0), MODELS["exponential"].share(x))


def test_structures_of_a_nested_model_add_up():
    model = semivariogram("nested", {"short_share": 0.4, "short_ratio": 0.01})
    short, long = model.structures()
    assert short["range_km"] < 500 < long["range_km"]
    total = model.nugget
    for part in (short, long):
        total = total + part["partial_sill"] * -np.expm1(-np.log(20) * LAG_KM / part["range_km"])
    np.testing.assert_allclose(model.semivariance_at(LAG_KM), total)


def test_slowest_shapes_have_a_practical_range():
    for name, model in MODELS.items():
        for ends in (0, 1):
            shape = {key: bounds[ends] for key, bounds in model.shape_bounds.items()}
            x = practical_x(model.share, shape)
            np.testing.assert_allclose(model.share(np.float64(x), **shape), 0.95, err_msg=name)


def test_std_is_smooth_positive_and_constant_beyond_the_lags():
    model = semivariogram("exponential", {})
    std = model.std_at(LAG_KM)
    assert std.shape == LAG_KM.shape
    assert (std > 0).all()
    assert (np.abs(np.diff(std)) < 0.002).all()
    ends = model.std_at(np.array([[0.0, 0.05], [15000.0, 20015.0]]))
    assert (ends[:, 0] == ends[:, 1]).all()
    np.testing.assert_allclose(ends[:, 0], [0.05, 0.15], atol=0.003)


def test_features_that_are_all_alike_have_a_positive_std():
    model = semivariogram("nugget", {}, std=np.zeros(12), partial_sill=0.0, range_km=None)
    assert (model.std_at(LAG_KM) > 0).all()


def test_without_a_range_there_is_no_correlation_or_a_falling_line():
    flat = semivariogram("nugget", {}, partial_sill=0.0, range_km=None)
    np.testing.assert_array_equal(flat.semivariance_at(LAG_KM), 0.15)
    np.testing.assert_array_equal(flat.correlation_at(LAG_KM), 0)
    assert flat.structures() == []
    line = semivariogram("linear", {"reach_km": 100.0}, range_km=None)
    np.testing.assert_allclose(line.semivariance_at(np.array([0.0, 50.0, 200.0])), [0.15, 0.375, 1.05])
    np.testing.assert_allclose(line.correlation_at(np.array([0.0, 50.0, 200.0])), [1, 0.5, 0])


@pytest.mark.parametrize("name", MODELS)
def test_a_model_file_reads_back_as_written(tmp_path, name):
    model = semivariogram(name, SHAPES[name])
    write_model(model, tmp_path / "model.json")
    again = read_model(tmp_path / "model.json")
    for fact in dataclasses.fields(Semivariogram):
        np.testing.assert_array_equal(getattr(again, fact.name), getattr(model, fact.name))
    values = json.loads((tmp_path / "model.json").read_text())
    assert values["sill"] == model.sill
    assert values["se_block"][0] is None


def test_a_missing_model_file_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="run the variogram stage first: dvc repro variogram"):
        read_model(tmp_path / "model.json")


def test_models_that_are_not_valid_are_refused_with_the_reason():
    check_models(list(MODELS))
    with pytest.raises(
        InputError, match="'gaussian' is refused: .* not positive definite .* choose from: exponential,"
    ):
        check_models(["exponential", "gaussian"])
    with pytest.raises(
        InputError, match="'sphericl' is not known; choose from: exponential, matern, nested, spherical"
    ):
        check_models(["sphericl"])
