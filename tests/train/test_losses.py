import math

import numpy as np
import pytest
import torch

from stages.train.losses import LOSSES, semivariogram_log_weights
from stages.train.pairs import tabulate

STRENGTHS = {
    "infonce": {},
    "semivariogram": {"beta_hard": 1.0, "beta_false": 3.0, "soft_share": 0.3, "soft_length_km": 50.0},
    "residual_scaling": {"strength": 1.0},
    "distance_soft": {"strength": 0.2, "length_km": 200.0},
    "hard_negative": {"beta": 0.5},
}
ZERO = {
    "semivariogram": {"beta_hard": 0.0, "beta_false": 0.0, "soft_share": 0.0, "soft_length_km": 50.0},
    "residual_scaling": {"strength": 0.0},
    "distance_soft": {"strength": 0.0, "length_km": 200.0},
    "hard_negative": {"beta": 0.0},
}

SOFT = {"distance_soft": ("strength", "length_km"), "semivariogram": ("soft_share", "soft_length_km")}

# Three photos, four places, the last from a queue. Photos 1 and 2 are at the same place; place 3 is beyond the range.
LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.5, 1.5, -0.5, 1.0], [0.0, 0.0, 1.0, 3.0]], dtype=torch.float64)
LAG_KM = torch.tensor([[0.0, 100.0, 100.0, 5000.0], [100.0, 0.0, 0.0, 5000.0], [100.0, 0.0, 0.0, 5000.0]])
DISTANCE = torch.tensor([[0.0, 0.3, 0.2, 0.2], [0.3, 0.0, 0.1, 0.8], [0.2, 0.1, 0.0, 0.4]])


def gamma(h):
    return 0.15 + 0.45 * (1 - math.exp(-3 * h / 500))


def std(h):
    return 0.1 + 0.1 * (1 - math.exp(-3 * h / 500))


def correlation(h):
    return math.exp(-3 * h / 500)


def log_weight(h, d, beta_hard, beta_false):
    z = (gamma(h) - d) / std(h)
    if h > 500:
        return beta_hard * max(z, 0)
    return -beta_false * correlation(h) / (1 + math.exp(-z))


def by_loops(name, logits, lag_km, distance, p):
    """Every loss as a double loop over anchors and candidates, in plain floats."""
    losses = []
    for i in range(len(logits)):
        scores = [float(value) for value in logits[i]]
        negatives = [j for j in range(len(scores)) if j != i]
        lags, distances = [float(h) for h in lag_km[i]], [float(d) for d in distance[i]]
        if name == "residual_scaling":
            for j in negatives:
                if lags[j] <= 500:
                    scores[j] *= math.exp(p["strength"] * max(0, distances[j] - gamma(lags[j])))
        weight = dict.fromkeys(negatives, 1.0)
        if name == "semivariogram":
            weight = {
                j: math.exp(log_weight(lags[j], distances[j], p["beta_hard"], p["beta_false"])) for j in negatives
            }
        if name == "hard_negative":
            alike = {j: math.exp(p["beta"] * scores[j]) for j in negatives}
            weight = {j: alike[j] * len(negatives) / sum(alike.values()) for j in negatives}
        target = {j: float(j == i) for j in range(len(scores))}
        if name in ("distance_soft", "semivariogram"):
            share, length_km = (p[key] for key in SOFT[name])
            near = [math.exp(-h / length_km) for h in lags]
            target = {j: (1 - share) * target[j] + share * near[j] / sum(near) for j in target}
        total = math.exp(scores[i]) + sum(weight[j] * math.exp(scores[j]) for j in negatives)
        weight[i] = 1.0
        losses.append(-sum(t * (scores[j] + math.log(weight[j]) - math.log(total)) for j, t in target.items()))
    return losses


@pytest.fixture
def loss_of(semivariogram):
    curves = tabulate(semivariogram)

    def loss_of(name, logits, lag_km, distance, p):
        loss = LOSSES[name]
        return loss.function(
            logits,
            lag_km.clone() if loss.uses_lag else None,
            distance.clone() if loss.uses_semivariogram else None,
            curves if loss.uses_semivariogram else None,
            **p,
        )

    return loss_of


def random_pairs(b, q, seed=1):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 3, (b, b + q)))
    lag_km = torch.from_numpy(rng.choice([0.0, 0.5, 40.0, 480.0, 900.0, 20_015.0], (b, b + q)).astype(np.float32))
    distance = torch.from_numpy(rng.uniform(0, 1.2, (b, b + q)).astype(np.float32))
    return logits, lag_km.fill_diagonal_(0), distance.fill_diagonal_(0)


def test_infonce_of_the_example_by_hand(loss_of):
    e = math.exp
    expected = [
        -math.log(e(2) / (e(2) + e(1) + e(0) + e(-1))),
        -math.log(e(1.5) / (e(0.5) + e(1.5) + e(-0.5) + e(1))),
        -math.log(e(1) / (e(0) + e(0) + e(1) + e(3))),
    ]
    np.testing.assert_allclose(loss_of("infonce", LOGITS, LAG_KM, DISTANCE, {}), expected, rtol=1e-12)


def test_semivariogram_of_the_example_by_hand(loss_of):
    # At 100 km c = e^-0.6, gamma = 0.15 + 0.45 (1 - c), s = 0.1 + 0.1 (1 - c); at 5000 km gamma = 0.6, s = 0.2.
    c, e = math.exp(-0.6), math.exp
    gamma_100, s_100 = 0.15 + 0.45 * (1 - c), 0.1 + 0.1 * (1 - c)

    def near(d):
        return -3 * c / (1 + e(-(gamma_100 - d) / s_100))

    coincident = -3 / (1 + e(-(0.15 - 0.1) / 0.1))
    expected = [
        -math.log(e(2) / (e(2) + e(1 + near(0.3)) + e(0 + near(0.2)) + e(-1 + (0.6 - 0.2) / 0.2))),
        -math.log(e(1.5) / (e(0.5 + near(0.3)) + e(1.5) + e(-0.5 + coincident) + e(1 + 0))),  # 0.8 > 0.6: no look-alike
        -math.log(e(1) / (e(0 + near(0.2)) + e(0 + coincident) + e(1) + e(3 + (0.6 - 0.4) / 0.2))),
    ]
    found = loss_of("semivariogram", LOGITS, LAG_KM, DISTANCE, STRENGTHS["semivariogram"] | {"soft_share": 0.0})
    np.testing.assert_allclose(found, expected, rtol=2e-3)  # the tables' rounding of the lag


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("b", "q"), [(2, 0), (3, 4), (7, 0), (6, 11)])
def test_each_loss_is_its_double_loop(name, b, q, loss_of):
    pairs = random_pairs(b, q)
    found = loss_of(name, *pairs, STRENGTHS[name])
    assert found.shape == (b,)
    np.testing.assert_allclose(found, by_loops(name, *pairs, STRENGTHS[name]), rtol=3e-3)  # the tables' rounding


@pytest.mark.parametrize("name", ZERO)
def test_each_loss_at_strength_zero_is_infonce(name, loss_of):
    pairs = random_pairs(6, 11)
    expected = loss_of("infonce", *pairs, {})
    np.testing.assert_allclose(loss_of(name, *pairs, ZERO[name]), expected, rtol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_right(name, loss_of):
    logits, lag_km, distance = random_pairs(4, 3)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda values: loss_of(name, values, lag_km, distance, STRENGTHS[name]), (logits,))


@pytest.mark.parametrize("name", LOSSES)
def test_large_logits_do_not_overflow(name, loss_of):
    logits, lag_km, distance = random_pairs(4, 3)
    losses = loss_of(name, (100 * logits).float().requires_grad_(), lag_km, distance, STRENGTHS[name])
    assert losses.isfinite().all()
    losses.sum().backward()


def test_the_halves_of_the_regulariser_switch_off_separately(semivariogram):
    _, lag_km, distance = random_pairs(6, 11)
    curves, is_far = tabulate(semivariogram), lag_km > 500
    hard = semivariogram_log_weights(lag_km, distance, curves, beta_hard=1.0, beta_false=0.0)
    false = semivariogram_log_weights(lag_km, distance, curves, beta_hard=0.0, beta_false=3.0)
    both = semivariogram_log_weights(lag_km, distance, curves, beta_hard=1.0, beta_false=3.0)
    assert (hard[~is_far] == 0).all()
    assert (hard >= 0).all()
    assert (hard > 0).any()
    assert (false[is_far] == 0).all()
    assert (false <= 0).all()
    assert (false < 0).any()
    np.testing.assert_allclose(both, hard + false, atol=1e-6)
    assert (both.diagonal() == 0).all()


def test_a_candidate_at_the_anchors_own_place_counts_less_than_any_other_negative(semivariogram):
    lag_km, distance = torch.tensor([[0.0, 0.0, 30.0, 300.0, 3000.0]]), torch.tensor([[0.0, 0.1, 0.1, 0.1, 0.7]])
    log_weight = semivariogram_log_weights(lag_km, distance, tabulate(semivariogram), beta_hard=1.0, beta_false=3.0)
    assert log_weight.isfinite().all()
    assert log_weight[0, 1] == log_weight.min()
    assert log_weight[0, 1] < -1.5
