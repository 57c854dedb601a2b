import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stages.evaluate import metrics
from stages.geo import great_circle_km

ERRORS = np.random.default_rng(3).lognormal(5, 2, 501)
LEVELS = {"country": ERRORS < 300, "city": (ERRORS < 10)[:100]}


def summary(error_km, is_right=None, n_bootstrap=400, seed=0):
    return metrics.summarize(np.asarray(error_km, float), is_right or {}, n_bootstrap=n_bootstrap, seed=seed)


def osv5m_metrics(predicted, true):
    """OSV5M's haversine metrics as its description defines them, in float64 radians: (n, 2) latitude and longitude."""
    difference = predicted - true
    a = torch.sin(difference[:, 0] / 2) ** 2
    a = a + torch.cos(predicted[:, 0]) * torch.cos(true[:, 0]) * torch.sin(difference[:, 1] / 2) ** 2
    km = 6371 * 2 * torch.arctan2(torch.sqrt(a), torch.sqrt(1 - a))
    scores = {f"accuracy_{radius}km": float((km < radius).double().mean()) for radius in (1, 25, 200, 750, 2500)}
    return scores | {"mean_error_km": float(km.mean()), "geoscore": float((5000 * torch.exp(-km / 1492.7)).mean())}


def test_metrics_equal_osv5ms_definition():
    rng = np.random.default_rng(0)
    true = np.column_stack([rng.uniform(-90, 90, 2000), rng.uniform(-180, 180, 2000)])
    near = true + rng.normal(size=true.shape) * 10.0 ** rng.uniform(-4, 1.5, (2000, 1))
    near = np.column_stack([near[:, 0].clip(-90, 90), (near[:, 1] + 180) % 360 - 180])
    ours = summary(great_circle_km(*true.T, *near.T))
    for key, value in osv5m_metrics(*(torch.from_numpy(np.radians(places)) for places in (near, true))).items():
        assert ours[key] == pytest.approx(value, rel=1e-9), key


def test_an_error_at_the_threshold_is_within_it():
    assert summary([25.0])["accuracy_25km"] == 1
    assert summary([np.nextafter(25.0, 26.0)])["accuracy_25km"] == 0


def test_the_score_is_5000_at_the_place_and_falls_by_e_in_1493_km():
    np.testing.assert_allclose(metrics.geoscore(np.array([0, 1492.7])), [5000, 5000 / np.e])


def test_the_keys_are_flat_and_a_level_without_any_truth_is_left_out():
    flat = summary(ERRORS, LEVELS | {"region": np.array([], bool)})
    bases = [key for key in flat if not key.endswith(("_low", "_high"))]
    assert bases == [*metrics.THRESHOLDS_KM, "accuracy_country", "accuracy_city", "geoscore", "mean_error_km",
                     "median_error_km", "count"]  # fmt: skip
    assert set(flat) == {"count"} | {key + end for key in bases[:-1] for end in ("", "_low", "_high")}
    assert flat["count"] == 501
    assert flat["accuracy_city"] == LEVELS["city"].mean()
    assert all(np.isfinite(value) for value in flat.values())


def test_every_value_lies_in_its_interval():
    flat = summary(ERRORS, LEVELS)
    for key in flat:
        if f"{key}_low" in flat:
            assert flat[f"{key}_low"] <= flat[key] <= flat[f"{key}_high"], key


def test_one_photo_has_intervals_without_width():
    flat = summary([12.0])
    assert flat["mean_error_km"] == flat["median_error_km_low"] == flat["median_error_km_high"] == 12
    assert (flat["accuracy_1km_low"], flat["accuracy_1km_high"]) == (0, 0)
    assert (flat["accuracy_25km_low"], flat["accuracy_25km_high"]) == (1, 1)


def test_a_proportions_interval_is_the_limit_of_resampling():
    hit = np.arange(200) < 60
    shares = np.random.default_rng(0).choice(hit, (20_000, 200)).mean(1)
    # 0.005 = one photo of 200: both are quantiles of a discrete distribution.
    np.testing.assert_allclose(metrics.proportion_interval(60, 200), np.quantile(shares, [0.025, 0.975]), atol=0.00501)


def test_the_means_interval_equals_scipys_bootstrap_and_the_normal_limit():
    flat = summary(ERRORS, n_bootstrap=4000)
    interval = np.array([flat["mean_error_km_low"], flat["mean_error_km_high"]])
    scipys = stats.bootstrap((ERRORS,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    np.testing.assert_allclose(interval, scipys, rtol=0.03)  # two draws of 4000 resamples
    score = metrics.geoscore(ERRORS)
    normal = score.mean() + stats.norm.ppf([0.025, 0.975]) * score.std() / np.sqrt(len(score))
    np.testing.assert_allclose([flat["geoscore_low"], flat["geoscore_high"]], normal, rtol=0.01)


def test_the_medians_interval_equals_its_order_statistics():
    flat = summary(ERRORS, n_bootstrap=4000)
    # The bootstrap median of n = 2m - 1 is at most the j-th smallest if at least m of n draws are among the j smallest.
    j = np.arange(1, 502)
    at_most = stats.binom.sf(250, 501, j / 501)
    exact = [np.sort(ERRORS)[np.argmax(at_most >= share)] for share in (0.025, 0.975)]
    np.testing.assert_allclose([flat["median_error_km_low"], flat["median_error_km_high"]], exact, rtol=0.06)


def test_the_interval_covers_the_truth_about_19_times_in_20():
    rng = np.random.default_rng(5)
    right = rng.binomial(300, 0.35, 400)
    covered = [low <= 0.35 <= high for low, high in (metrics.proportion_interval(k, 300) for k in right)]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_blocks_do_not_change_what_is_resampled(monkeypatch):
    monkeypatch.setattr(metrics, "_RESAMPLED_NUMBERS", 30)
    sizes = []
    out = metrics.resampled(lambda rows: sizes.append(rows.shape) or rows.max(1, keepdims=True), 9, 10, seed=0)
    assert sizes == [(3, 9), (3, 9), (3, 9), (1, 9)]
    assert out.shape == (10, 1)


def test_the_seed_decides_every_digit():
    assert summary(ERRORS, seed=4) == summary(ERRORS, seed=4)
    assert summary(ERRORS, seed=4) != summary(ERRORS, seed=5)


def test_predictions_do_not_differ_from_themselves():
    differences = metrics.paired_difference(ERRORS, ERRORS, n_bootstrap=100, seed=0)
    assert set(differences) == {*metrics.THRESHOLDS_KM, "geoscore", "mean_error_km", "median_error_km"}
    assert all(values == (0, 0, 0) for values in differences.values())


def test_paired_differences_equal_scipys():
    rng = np.random.default_rng(8)
    better = ERRORS * rng.uniform(0.5, 1.2, len(ERRORS))
    ours = metrics.paired_difference(better, ERRORS, n_bootstrap=4000, seed=0)
    within = (better <= 200).astype(float), (ERRORS <= 200).astype(float)
    for key, pair in (("mean_error_km", (better, ERRORS)), ("accuracy_200km", within)):
        scipys = stats.bootstrap(
            pair, lambda a, b, axis: a.mean(axis) - b.mean(axis), paired=True, vectorized=True, method="percentile",
            n_resamples=4000, rng=1,
        ).confidence_interval  # fmt: skip
        value, low, high = ours[key]
        assert value == pytest.approx(pair[0].mean() - pair[1].mean())
        np.testing.assert_allclose([low, high], scipys, atol=0.06 * (high - low))
    assert ours["median_error_km"][0] == np.median(better) - np.median(ERRORS)


def test_pairing_sees_a_difference_that_two_intervals_do_not():
    one, other = summary(ERRORS * 0.9), summary(ERRORS)
    assert one["mean_error_km_high"] > other["mean_error_km_low"]
    assert metrics.paired_difference(ERRORS * 0.9, ERRORS, n_bootstrap=400, seed=0)["mean_error_km"][2] < 0


@given(st.lists(st.floats(0, 20015), min_size=1, max_size=50), st.lists(st.floats(0, 20015), min_size=1, max_size=9))
def test_the_curve_at_a_distance_is_the_accuracy_there(error_km, distance_km):
    error_km = np.array(error_km)
    expected = [(error_km <= km).mean() for km in distance_km]
    np.testing.assert_array_equal(metrics.accuracy_curve(error_km, np.array(distance_km)), expected)
