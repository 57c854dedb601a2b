import json

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import multivariate_normal

from stages.geo import unit_vectors
from stages.world import truth


def test_every_latents_variances_sum_to_1():
    for latent in truth.describe()["latents"]:
        assert sum(latent["variances"]) == pytest.approx(1)
        assert len(latent["variances"]) == len(latent["ranges_km"])
    assert json.loads(json.dumps(truth.describe())) == truth.describe()


@pytest.mark.parametrize("lag_km", [0.5, 20.0, 300.0, 2500.0, 15000.0])
def test_the_closed_forms_are_those_of_simulated_latents(lag_km, monkeypatch):
    # Two places of one world are one draw: take many worlds. Few waves do: over worlds the covariance is right on
    # average whatever their number.
    monkeypatch.setattr(truth, "N_WAVES", 16)
    at = unit_vectors(np.zeros(2), np.degrees(np.array([0, lag_km]) / 6371.0))
    u = np.array([truth.latents(at, seed) for seed in range(2500)])
    rho = truth.correlation(np.array([lag_km]), truth.describe())[:, 0]
    gradual = (u[:, 0] - u[:, 1]) ** 2 / 2
    above = u > 0.5
    threshold = (above[:, 0] != above[:, 1]) / 2
    for half_squares, expected in (
        (gradual, truth.gradual_semivariance(rho) / 12),  # a uniform variable's variance
        (threshold, truth.threshold_semivariance(rho) / 4),  # a coin's
    ):
        error = half_squares.std(axis=0) / np.sqrt(len(u))
        assert np.all(np.abs(half_squares.mean(axis=0) - expected) < 4.5 * error + 1e-12)


@pytest.mark.parametrize("rho", [-1.0, -0.6, 0.0, 0.3, 0.9, 1.0])
def test_a_gradual_response_has_the_semivariance_that_quadrature_gives(rho):
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights /= weights.sum()
    other = rho * nodes[:, None] + np.sqrt(1 - rho**2) * nodes
    half_squares = (ndtr(nodes)[:, None] - ndtr(other)) ** 2 / 2
    assert truth.gradual_semivariance(np.array(rho)) == pytest.approx(12 * weights @ half_squares @ weights, abs=1e-9)


@pytest.mark.parametrize("rho", [-0.99, -0.6, 0.0, 0.3, 0.9, 0.99])
def test_a_threshold_has_the_semivariance_of_the_quadrants_of_a_normal_distribution(rho):
    both_below = multivariate_normal.cdf([0, 0], cov=[[1, rho], [rho, 1]])
    only_one_below = 2 * (0.5 - both_below)
    assert truth.threshold_semivariance(np.array(rho)) == pytest.approx(only_one_below / 0.5, abs=1e-6)


@pytest.mark.parametrize("response", [truth.gradual_semivariance, truth.threshold_semivariance])
def test_rounding_past_a_correlation_of_1_is_no_error(response):
    assert response(np.array([1 + 1e-15, -1 - 1e-15])) == pytest.approx([0, 2])


@pytest.mark.parametrize("response", [truth.gradual_semivariance, truth.threshold_semivariance])
def test_semivariance_rises_from_0_to_its_sill(response):
    lags_km = np.array([0.0, 1e-3, 1.0, 10.0, 100.0, 1000.0, 10_000.0, np.pi * 6371])
    gamma = response(truth.correlation(lags_km, truth.describe()))
    assert gamma.shape == (len(truth.LATENTS), len(lags_km))
    np.testing.assert_allclose(gamma[:, 0], 0, atol=1e-7)  # arccos near 1 has half the digits
    assert np.all(np.diff(gamma, axis=1) > 0)
    np.testing.assert_allclose(gamma[:, -1], 1, rtol=0.005)


def test_a_threshold_rises_before_a_gradual_response():
    rho = np.linspace(0.01, 0.99, 50)
    assert np.all(truth.threshold_semivariance(rho) > truth.gradual_semivariance(rho))


def test_latents_of_a_world_are_spread_over_the_unit_interval_and_alike_at_neighbours():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((1500, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    u = truth.latents(vectors, seed=3)
    assert u.shape == (1500, len(truth.LATENTS))
    assert u.min() > 0
    assert u.max() < 1
    np.testing.assert_allclose(u.std(axis=0), np.sqrt(1 / 12), rtol=0.12)
    beside = vectors[:200] + rng.standard_normal((200, 3)) * 1e-5 / 6371
    beside /= np.linalg.norm(beside, axis=1, keepdims=True)
    assert np.abs(truth.latents(beside, seed=3) - u[:200]).mean() < 0.01
