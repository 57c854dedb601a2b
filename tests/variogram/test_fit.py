import numpy as np
import pytest
from scipy.stats import kstest

from stages.cli import InputError
from stages.variogram.choose import choose, plausible, structure_p_value
from stages.variogram.empirical import estimate, lag_edges_km
from stages.variogram.fit import fit
from stages.variogram.least_squares import fit_model, weights
from stages.variogram.models import MODELS

EDGES_KM = lag_edges_km(0.1, 40)
NAMES = list(MODELS)
LAG_KM = np.geomspace(0.05, 18000, 40)
EQUAL = np.full(40, 1 / 40)


def world(scatter, simulate, nugget, structures, seed, n=1000):
    latitude, longitude = scatter(n, seed)
    features = simulate(latitude, longitude, nugget, structures, seed + 1000)
    return estimate(latitude, longitude, features, edges_km=EDGES_KM)


@pytest.mark.parametrize(
    ("name", "scale_km", "shape"),
    [
        ("exponential", 170, ()),
        ("spherical", 900, ()),
        ("stable", 100, (0.6,)),
        ("matern", 300, (0.25,)),
        ("nested", 500, (0.4, 0.01)),
    ],
)
def test_a_curve_without_noise_is_recovered(name, scale_km, shape):
    semivariance = 0.1 + 0.5 * MODELS[name].share(LAG_KM / scale_km, *shape)
    found = fit_model(name, LAG_KM, semivariance, EQUAL)
    np.testing.assert_allclose([found.nugget, found.partial_sill], [0.1, 0.5], rtol=1e-3)
    np.testing.assert_allclose(found.scale_km, scale_km, rtol=1e-2)
    np.testing.assert_allclose(found.shape, shape, rtol=1e-2)


def test_nugget_and_partial_sill_are_never_negative():
    falling = fit_model("exponential", LAG_KM, np.linspace(0.5, 0.1, 40), EQUAL)
    assert falling.partial_sill == 0
    steep = fit_model("linear", LAG_KM, np.maximum(LAG_KM - 5000, 0) / 1e4, EQUAL)
    assert steep.nugget == 0


def test_an_exponential_field_is_recovered(scatter, simulate):
    found = [fit(world(scatter, simulate, 0.151, [(0.449, 500.0)], seed), NAMES) for seed in range(3)]
    # Realisations of this field differ by about 5 % in range.
    np.testing.assert_allclose(np.median([model.range_km for model in found]), 500, rtol=0.1)
    np.testing.assert_allclose([model.nugget for model in found], 0.151, atol=0.015)
    np.testing.assert_allclose([model.sill for model in found], 0.6, atol=0.02)
    assert [model.name for model in found].count("exponential") >= 2


def test_a_nested_field_is_told_from_a_single_structure(scatter, simulate):
    model = fit(world(scatter, simulate, 0.151, [(0.2, 15.0), (0.249, 1500.0)], 1, n=1500), NAMES)
    assert model.name == "nested"
    short, long = model.structures()
    np.testing.assert_allclose(short["range_km"], 15, rtol=0.25)
    np.testing.assert_allclose(long["range_km"], 1500, rtol=0.3)  # a dozen countries: few independent values
    assert "predicts held-out blocks best" in model.reason
    assert {candidate["name"] for candidate in model.candidates} == {"nugget", "linear", *NAMES}
    assert 0 < model.standard_errors["range_km"] < model.range_km
    assert model.se_model.shape == model.lag_km.shape
    assert model.r2 > 0.95


def test_features_without_structure_give_a_nugget(scatter, simulate):
    model = fit(world(scatter, simulate, 0.5, [], 2), NAMES)
    assert (model.name, model.partial_sill, model.range_km) == ("nugget", 0.0, None)
    np.testing.assert_allclose(model.nugget, 0.5, rtol=0.02)
    assert any("no spatial structure" in warning for warning in model.warnings)


@pytest.mark.parametrize("estimator", ["matheron", "cressie"])
def test_features_that_are_all_the_same_give_a_nugget_of_0(scatter, estimator):
    found = estimate(*scatter(200, 1), np.ones((200, 4)), edges_km=EDGES_KM, estimator=estimator)
    model = fit(found, NAMES)
    assert (model.name, model.nugget, model.partial_sill) == ("nugget", 0.0, 0.0)
    assert model.reason.endswith("(p = 1)")


def test_features_of_width_one_are_fitted(scatter):
    latitude, longitude = scatter(400, 2)
    northern = np.where(latitude > 0, 1.0, -1.0)[:, None]
    assert fit(estimate(latitude, longitude, northern, edges_km=EDGES_KM), NAMES).name != "nugget"
    shuffled = np.random.default_rng(0).permutation(northern)
    assert fit(estimate(latitude, longitude, shuffled, edges_km=EDGES_KM), NAMES).name == "nugget"


def test_only_a_nugget_is_plausible_without_significant_structure_and_never_with_it():
    fits = [
        fit_model(name, LAG_KM, 0.1 + 0.5 * MODELS["exponential"].share(LAG_KM / 200), EQUAL)
        for name in ("nugget", "linear", "exponential")
    ]
    assert plausible(fits, 0.2, 18000) == [0]
    assert plausible(fits, 0.001, 18000) == [2]  # a line only where no model has a plateau
    assert plausible(fits, 0.001, 500) == [1, 2]
    falling = [fit_model(fit.name, LAG_KM, np.linspace(0.5, 0.1, 40), EQUAL) for fit in fits]
    assert plausible(falling, 0.001, 18000) == [0]


def test_without_structure_p_values_are_uniform_and_with_structure_they_are_small(scatter, simulate):
    flat = [structure_p_value(world(scatter, simulate, 0.5, [], seed, n=300)) for seed in range(30)]
    assert kstest(flat, "uniform").pvalue > 0.01
    assert structure_p_value(world(scatter, simulate, 0.4, [(0.1, 500.0)], 1)) < 0.01


def test_structure_is_found_where_few_towns_own_most_lags(simulate):
    # Three photos in four are of one town; short lags elsewhere are few, so that no held-out block predicts them.
    rng = np.random.default_rng(8)
    centre = rng.uniform(-60, 60, (12, 2))
    town = np.concatenate([np.zeros(600, int), rng.integers(0, 12, 200)])
    latitude, longitude = centre[town].T + rng.normal(0, 0.02, (2, 800))
    features = simulate(latitude, longitude, 0.4, [(0.2, 20.0)], 9)
    found = estimate(latitude, longitude, features, edges_km=EDGES_KM)
    assert fit(found, NAMES).name != "nugget"
    shuffled = estimate(latitude, longitude, rng.permutation(features), edges_km=EDGES_KM)
    assert fit(shuffled, NAMES).name == "nugget"


def test_a_line_without_a_plateau_is_called_linear(scatter):
    # Features that follow the meridian arc: distance grows with lag in a strip of 20 km, without end.
    rng = np.random.default_rng(3)
    latitude, longitude = rng.uniform(0, 0.2, 1200), rng.uniform(0, 0.01, 1200)
    steps = np.linspace(0, 0.2, 400)
    features = np.sign(latitude[:, None] - steps) / 20  # |f_i - f_j|² is proportional to the lag
    model = fit(estimate(latitude, longitude, features, edges_km=EDGES_KM), NAMES)
    assert (model.name, model.range_km) == ("linear", None)
    assert any("no plateau up to" in warning for warning in model.warnings)
    np.testing.assert_allclose(model.semivariance_at(model.lag_km), model.semivariance, atol=0.02)


def test_too_few_bins_say_so():
    found = estimate(np.zeros(50), np.zeros(50), np.eye(50), edges_km=EDGES_KM)
    with pytest.raises(InputError, match="1 lag bins have 30 pairs or more, and a fit needs 5; take more photos"):
        fit(found, NAMES)


def test_a_bin_that_one_block_owns_is_warned_of_and_weighs_least(scatter, simulate):
    found = world(scatter, simulate, 0.151, [(0.449, 500.0)], 5, n=800)
    owned = found.largest_block_share > 0.5
    weight = weights(found)
    assert weight.sum() == pytest.approx(1)
    assert (weight[found.n_pairs < 30] == 0).all()
    assert owned.any() == any("one spatial block" in warning for warning in fit(found, NAMES).warnings)


def test_the_simplest_model_within_one_standard_error_is_chosen():
    names = ["nugget", "exponential", "stable", "nested"]
    scores = np.array([[9, 9, 8, 9, 9], [2, 1.9, 2.2, 2, 1.95], [2, 1.8, 2.2, 2.1, 1.9], [2, 1.9, 2.1, 2.1, 1.85]])
    chosen, reason = choose(names, scores, [0, 0, 0, 0])
    assert names[chosen] == "exponential"
    assert "simpler than nested" in reason
    scores[3] -= 0.5
    assert names[choose(names, scores, [0, 0, 0, 0])[0]] == "nested"


def test_without_folds_the_lowest_aicc_decides():
    chosen, reason = choose(["nugget", "exponential"], np.empty((2, 0)), [5.0, 3.0])
    assert (chosen, "AICc" in reason) == (1, True)


def test_a_fixed_camera_at_each_place_has_lag_zero_and_is_fitted(simulate, scatter):
    latitude, longitude = (np.repeat(degrees, 8) for degrees in scatter(100, 6))
    features = np.repeat(simulate(*scatter(100, 6), 0.1, [(0.5, 800.0)], 6), 8, axis=0)
    features = features + np.random.default_rng(0).normal(size=features.shape) * 0.02
    found = estimate(latitude, longitude, features, edges_km=lag_edges_km(0.002, 20))
    assert found.lag_km[0] == 1e-3
    assert fit(found, NAMES).range_km > 100
