import itertools

import numpy as np
import pytest

from stages.cli import InputError
from stages.evaluate.metrics import THRESHOLDS_KM, paired_difference
from stages.params import load_params
from stages.study.compare import difference
from stages.study.figures import draw_differences
from stages.study.variants import parse_variant

TRAIN = load_params().train


def test_a_variant_changes_its_own_params_only():
    loss, p = parse_variant("semivariogram:beta_hard=0,beta_false=7.5", TRAIN)
    assert loss == "semivariogram"
    assert p.semivariogram.model_dump() == TRAIN.semivariogram.model_dump() | {"beta_hard": 0.0, "beta_false": 7.5}
    assert p.model_copy(update={"semivariogram": TRAIN.semivariogram}) == TRAIN
    assert parse_variant("infonce", TRAIN) == ("infonce", TRAIN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("infonse", "loss 'infonse' is not known; choose one of: infonce, semivariogram"),
        (
            "semivariogram:beta=1",
            "'beta' is not a param of semivariogram; its params: beta_hard, beta_false, soft_share, ",
        ),
        ("infonce:beta=1", "'beta' is not a param of infonce; its params: none"),
        ("semivariogram:beta_hard=much", "'much' is not a number; write beta_hard=1.5"),
        ("semivariogram:beta_hard=-1", "beta_hard: Input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_variant_is_named_with_the_rule(text, message):
    with pytest.raises(InputError) as error:
        parse_variant(text, TRAIN)
    assert message in str(error.value)


def errors(seed, n_seeds=3, n=400, shift=1.0):
    rng = np.random.default_rng(seed)
    hard = rng.lognormal(6, 2.5, n)
    return shift * hard * rng.lognormal(0, 0.5, (n_seeds, n))


ALONE = np.arange(400)  # every photo a drive of its own


def test_the_difference_is_the_difference_of_mean_accuracies():
    better, base = errors(1, shift=0.5), errors(1)
    for key, (value, low, high) in difference(better, base, ALONE, seed=0).items():
        accuracy = [np.mean(e <= THRESHOLDS_KM[key]) for e in (better, base)]
        assert value == pytest.approx(accuracy[0] - accuracy[1], abs=1e-12)
        assert low <= value <= high


def test_with_one_seed_the_interval_is_that_of_the_paired_difference():
    better, base = errors(2, n_seeds=1, shift=0.7), errors(3, n_seeds=1)
    ours = difference(better, base, ALONE, seed=0)
    theirs = paired_difference(better[0], base[0], ALONE, n_bootstrap=4000, seed=5)
    for key in THRESHOLDS_KM:
        # Two bootstraps of 2,000 and 4,000 draws: quantiles differ by some 5 % of the interval's width.
        np.testing.assert_allclose(ours[key], theirs[key], atol=0.1 * (theirs[key][2] - theirs[key][1]) + 1e-9)


def test_the_interval_covers_the_truth_over_new_seeds_and_photos():
    covered = []
    for trial in range(60):
        rng = np.random.default_rng(trial)
        # Hits within 25 km: a seed's and a photo's effect shared by neither run; the true difference is 0.
        change = rng.random((2, 6, 300)) < 0.4
        drive = np.arange(300) // 2
        error_km = np.where(change, 10.0, 100.0)
        _, low, high = difference(error_km[0], error_km[1], drive, seed=trial)["accuracy_25km"]
        covered.append(low <= 0 <= high)
    assert np.mean(covered) > 0.85


def test_no_difference_has_an_interval_without_width():
    same = errors(4)
    assert set(itertools.chain(*difference(same, same, ALONE, seed=0).values())) == {0.0}


def test_the_figure_has_a_line_a_variant_and_names_the_base():
    by_key = difference(errors(1), errors(2), ALONE, seed=0)
    ax = draw_differences({"semivariogram": by_key, "distance_soft": by_key}, "infonce").axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["semivariogram", "distance_soft"]
    assert "infonce" in ax.get_ylabel()
    assert "points" in ax.get_ylabel()
