import json
import math

import numpy as np
import pytest

from stages.evaluate import choice
from stages.evaluate.choice import IMAGE_KNN, MODEL, SETTINGS, Setting

STRONG, KRIGED = Setting(8.0, "nearest"), Setting(8.0, "kriged")
NEAR, CITY, LOST = 0.5, 20.0, 9000.0


def choose(errors_km, drive=None):
    n = len(errors_km[MODEL])
    return choice.choose(errors_km, np.arange(n) if drive is None else drive)


def errors(**by_name):
    names = {"model": MODEL, "knn": IMAGE_KNN, "strong": STRONG, "kriged": KRIGED}
    return {names[name]: np.array(error_km) for name, error_km in by_name.items()}


def test_both_sources_are_among_the_settings_and_none_stands_twice():
    assert SETTINGS[:2] == (MODEL, IMAGE_KNN)
    assert (MODEL.strength, IMAGE_KNN.strength) == (0, math.inf)
    assert len(set(SETTINGS)) == len(SETTINGS)


def test_the_worth_of_an_answer_is_the_share_of_the_distances_it_is_within():
    assert choice.worth(np.array([0, 1, 25, 25.1, 750, 2500, 2501])).tolist() == [1, 1, 0.8, 0.6, 0.4, 0.2, 0]


def test_the_best_setting_is_chosen():
    n = 20
    found = errors(model=[LOST] * n, knn=[LOST] * n, strong=[NEAR] * 10 + [LOST] * 10, kriged=[NEAR] * 12 + [LOST] * 8)
    assert choose(found) == KRIGED


def test_of_equals_the_first_is_chosen():
    assert choose(errors(model=[LOST] * 9, knn=[LOST] * 9, strong=[NEAR] * 9, kriged=[NEAR] * 9)) == STRONG
    assert choose(errors(model=[NEAR] * 9, knn=[NEAR] * 9, strong=[NEAR] * 9)) == MODEL


def test_the_better_source_is_kept_where_the_gain_is_within_two_standard_errors():
    # Two photos of four are better: a gain of 0.5 with a standard error of 0.5 / 2; three of eight: 0.375 and 0.171.
    assert choose(errors(model=[LOST] * 4, knn=[LOST] * 4, strong=[NEAR, NEAR, LOST, LOST])) == MODEL
    three = errors(model=[LOST] * 8, knn=[LOST] * 8, strong=[NEAR] * 3 + [LOST] * 5)
    assert choose(three) == STRONG
    # They are frames of one drive, which is one observation: the error is 3 (1 - 0.375) / 8.
    assert choose(three, np.array([0, 0, 0, 1, 2, 3, 4, 5])) == MODEL
    # One is better and one worse by less: a gain of 0.05 with a standard error of 0.37.
    unsure = [NEAR, LOST, NEAR, LOST]
    mixed = [LOST, CITY, NEAR, NEAR]
    assert choice.worth(np.array(mixed)).mean() > choice.worth(np.array(unsure)).mean()
    assert choose(errors(model=unsure, knn=[LOST] * 4, strong=mixed)) == MODEL
    assert choose(errors(model=[LOST] * 4, knn=unsure, strong=mixed)) == IMAGE_KNN


@pytest.mark.parametrize("seed", range(20))
def test_the_chosen_is_never_worse_than_the_better_source(seed):
    rng = np.random.default_rng(seed)
    found = {setting: 10 ** rng.uniform(-1, 4, rng.integers(1, 2) * 30) for setting in SETTINGS}
    chosen = choose(found)
    assert choice.worth(found[chosen]).mean() >= max(choice.worth(found[s]).mean() for s in (MODEL, IMAGE_KNN))


def test_one_photo_is_enough_to_choose_by():
    assert choose(errors(model=[LOST], knn=[NEAR], strong=[CITY])) == IMAGE_KNN


def test_the_facts_are_flat_json_with_the_accuracies_of_both_sources_and_of_the_chosen():
    found = errors(model=[NEAR, CITY, LOST, LOST], knn=[LOST, LOST, LOST, NEAR], strong=[CITY, CITY, LOST, NEAR])
    facts = choice.describe(STRONG, found)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert (facts["refined_by"], facts["refined_strength"], facts["validation_count"]) == ("nearest", 8.0, 4)
    assert facts["validation_model_accuracy_1km"] == 0.25
    assert facts["validation_image_knn_accuracy_25km"] == 0.25
    assert facts["validation_refined_accuracy_25km"] == 0.75
    assert facts["validation_model_accuracy_mean"] == pytest.approx((0.25 + 4 * 0.5) / 5)


@pytest.mark.parametrize(("setting", "name"), [(MODEL, "model"), (IMAGE_KNN, "image_knn")])
def test_a_source_alone_is_named(setting, name):
    facts = choice.describe(setting, errors(model=[NEAR], knn=[NEAR]))
    assert facts["refined_by"] == name
    json.dumps(facts, allow_nan=False)
    alone = {"model": "the model", "image_knn": "the image k-NN"}[name]
    assert choice.in_words(facts) == (
        f"No strength was surely better than {alone} alone on 1 validation photos, so this is the answer of {alone}."
    )


def test_the_words_name_every_distance_at_which_the_chosen_is_worse_than_the_better_source():
    found = errors(model=[NEAR, LOST, LOST, LOST], knn=[LOST] * 4, strong=[CITY, CITY, CITY, LOST])
    assert choice.in_words(choice.describe(STRONG, found)) == (
        "By the nearest appearance with strength 8, chosen on 4 validation photos. "
        "On them it is worse than the better of its two sources within 1 km (0.0 against 25.0 %)."
    )
    assert "worse" not in choice.in_words(choice.describe(MODEL, found))
