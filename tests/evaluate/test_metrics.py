import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stages.evaluate import metrics
from stages.geo import great_circle_km

ERRORS = np.random.default_rng(3).lognormal(5, 2, 501)
ALONE = np.arange(501)  # every photo a drive of its own
LEVELS = {"country": 1.0 * (ERRORS < 300), "city": np.where(ALONE < 100, ERRORS < 10, np.nan)}


def summary(error_km, is_right=None, drive=None, n_bootstrap=400, seed=0):
    error_km = np.asarray(error_km, float)
    drive = np.arange(len(error_km)) if drive is None else drive
    return metrics.summarize(error_km, drive, is_right or {}, n_bootstrap=n_bootstrap, seed=seed)


def difference(error_km, other_error_km, drive=ALONE, n_bootstrap=400):
    return metrics.paired_difference(error_km, other_error_km, drive, n_bootstrap=n_bootstrap, seed=0)


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
    flat = summary(ERRORS, LEVELS | {"region": np.full(501, np.nan)})
    bases = [key for key in flat if not key.endswith(("_low", "_high"))]
    assert bases == [*metrics.THRESHOLDS_KM, "accuracy_country", "accuracy_city", "geoscore", "mean_error_km",
                     "median_error_km", "count"]  # fmt: skip
    assert set(flat) == {"count"} | {key + end for key in bases[:-1] for end in ("", "_low", "_high")}
    assert flat["count"] == 501
    assert flat["accuracy_city"] == np.nanmean(LEVELS["city"])
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


def test_drives_are_numbered_and_photos_without_a_sequence_are_alone():
    assert metrics.drives(pl.Series(["b", None, "a", "b", None])).tolist() == [3, 1, 2, 3, 0]
    assert metrics.drives(pl.Series([None, None], dtype=pl.String)).tolist() == [1, 0]
    assert metrics.drives(pl.Series(["a"])).tolist() == [0]


def test_the_interval_of_a_share_is_binomial():
    """The right ones of n photos drawn with replacement are Binomial(n, share); so are drives that are all one."""
    n, right = 200, 60
    for frames in (1, 5):
        error_km = np.where(np.arange(n) < right, 10.0, 100.0).repeat(frames)
        flat = summary(error_km, drive=np.arange(n).repeat(frames), n_bootstrap=20_000)
        closed = stats.binom.ppf([0.025, 0.975], n, right / n) / n
        # 0.005 = one drive of 200: both are quantiles of a discrete distribution.
        interval = flat["accuracy_25km_low"], flat["accuracy_25km_high"]
        np.testing.assert_allclose(interval, closed, atol=0.00501)


@given(st.lists(st.tuples(st.floats(0, 20015), st.integers(0, 5)), min_size=1, max_size=30), st.integers(0, 99))
def test_resamples_are_those_of_photos_repeated_by_their_drives(photos, seed):
    error_km, drive = (np.array(column) for column in zip(*photos, strict=True))
    drive = np.unique(drive, return_inverse=True)[1]
    level = np.where(error_km < 100, error_km < 10, np.nan)
    found = metrics.bootstrap(error_km, drive, {"city": level}, n_bootstrap=7, seed=seed)
    rng, c = np.random.default_rng(seed), drive.max() + 1
    drawn = [np.bincount(rows, minlength=c) for rows in rng.integers(c, size=(7, c))]
    for row, n_drawn in enumerate([np.ones(c, int), *drawn]):
        sample, right = (values.repeat(n_drawn[drive]) for values in (error_km, level))
        np.testing.assert_allclose(found["mean_error_km"][row], sample.mean(), rtol=1e-9, atol=1e-300)
        assert found["median_error_km"][row] == np.median(sample)
        assert found["accuracy_750km"][row] == np.mean(sample <= 750)
        if "accuracy_city" in found:
            known = right[~np.isnan(right)]
            np.testing.assert_array_equal(found["accuracy_city"][row], known.mean() if len(known) else np.nan)


def test_frames_of_one_drive_are_no_more_evidence_than_one():
    one = summary(ERRORS, LEVELS)
    assert summary(ERRORS.repeat(4), {k: v.repeat(4) for k, v in LEVELS.items()}, ALONE.repeat(4)) == pytest.approx(
        one | {"count": 4 * 501}
    )


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


def test_the_interval_covers_the_truth_about_19_times_in_20_though_drives_are_right_or_wrong_together():
    covered = []
    for trial in range(200):
        rng = np.random.default_rng(trial)
        n_frames = rng.integers(1, 9, 150)
        drive = np.arange(150).repeat(n_frames)
        # Half of what decides is the drive's, whose chance of being right is 0.2 or 0.5.
        right = rng.random(len(drive)) < np.where(rng.random(150) < 0.5, 0.2, 0.5)[drive]
        flat = summary(np.where(right, 10.0, 100.0), drive=drive, seed=trial)
        covered.append(flat["accuracy_25km_low"] <= 0.35 <= flat["accuracy_25km_high"])
    assert 0.9 <= np.mean(covered) <= 0.99


def test_blocks_of_resamples_do_not_change_them(monkeypatch):
    drive = ALONE // 3
    whole = metrics.bootstrap(ERRORS, drive, n_bootstrap=20, seed=0)
    monkeypatch.setattr(metrics, "_RESAMPLED_NUMBERS", 3 * len(ERRORS))  # three resamples a block, the last has two
    for key, found in metrics.bootstrap(ERRORS, drive, n_bootstrap=20, seed=0).items():
        np.testing.assert_allclose(found, whole[key], rtol=1e-12)


def test_a_level_that_some_resamples_know_nothing_of_has_an_interval():
    flat = summary([1.0, 2.0, 3.0], {"city": np.array([1.0, np.nan, np.nan])})
    assert (flat["accuracy_city"], flat["accuracy_city_low"], flat["accuracy_city_high"]) == (1, 1, 1)


def test_the_seed_decides_every_digit():
    assert summary(ERRORS, seed=4) == summary(ERRORS, seed=4)
    assert summary(ERRORS, seed=4) != summary(ERRORS, seed=5)


def test_predictions_do_not_differ_from_themselves():
    differences = difference(ERRORS, ERRORS)
    assert set(differences) == {*metrics.THRESHOLDS_KM, "geoscore", "mean_error_km", "median_error_km"}
    assert all(values == (0, 0, 0) for values in differences.values())


def test_paired_differences_equal_scipys():
    rng = np.random.default_rng(8)
    better = ERRORS * rng.uniform(0.5, 1.2, len(ERRORS))
    ours = difference(better, ERRORS, n_bootstrap=4000)
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
    assert difference(ERRORS * 0.9, ERRORS)["mean_error_km"][2] < 0


@given(st.lists(st.floats(0, 20015), min_size=1, max_size=50), st.lists(st.floats(0, 20015), min_size=1, max_size=9))
def test_the_curve_at_a_distance_is_the_accuracy_there(error_km, distance_km):
    error_km = np.array(error_km)
    expected = [(error_km <= km).mean() for km in distance_km]
    np.testing.assert_array_equal(metrics.accuracy_curve(error_km, np.array(distance_km)), expected)
