import math

import numpy as np
import pytest
import torch

from stages.cli import InputError
from stages.shards import FeatureRows
from stages.train import loop
from stages.train.loop import Run, decay_groups, feature_reader, learning_rate_at, train
from stages.train.losses import LOSSES
from stages.train.model import seeded_model
from stages.train.pairs import tabulate
from stages.train.ranks import Ranks
from stages.train.validation import Validation


@pytest.fixture
def new_run(photos, train_params, semivariogram):
    def new_run(name="semivariogram", **changes):
        p = train_params.model_copy(update=changes)
        widths = {key: getattr(p, key) for key in ("embedding_width", "hidden_width", "fourier_width", "sigmas")}
        model = seeded_model(p.seed, feature_width=6, **widths)
        return Run(model, LOSSES[name], getattr(p, name).model_dump(), p, photos, tabulate(semivariogram))

    return new_run


def weights(run):
    return {key: value.clone() for key, value in run.model.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_learns_where_its_photos_are(name, new_run, photos, tmp_path):
    place = photos.latitude_deg, photos.longitude_deg
    itself = Validation(photos.feature(np.arange(70)).numpy(), place, place, torch.device("cpu"))
    run = new_run(name, epochs=30)
    train(run, itself, tmp_path / "checkpoint.pt", "")
    first, last = run.curve[0], run.curve[-1]
    assert last["training_loss"] < first["training_loss"]
    assert last["median_error_km"] < 2500  # a quarter of what guessing costs


def test_equal_seeds_give_equal_weights_and_others_do_not(new_run, validation, tmp_path):
    runs = [new_run(seed=seed) for seed in (3, 3, 4)]
    for run in runs:
        train(run, validation, tmp_path / "checkpoint.pt", "")
    assert_same(weights(runs[0]), weights(runs[1]))
    assert runs[0].curve == runs[1].curve
    assert not torch.equal(weights(runs[0])["logit_scale"], weights(runs[2])["logit_scale"])


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kill_at", [0, 1, 3, 4, 7, 15])
def test_a_run_that_was_killed_ends_like_one_that_was_not(kill_at, new_run, validation, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)  # after every step
    whole = new_run()
    train(whole, validation, tmp_path / "whole.pt", "")
    assert whole.n_steps == 16

    advance = Run.advance

    def advance_or_die(run):
        if run.step == kill_at:
            raise Killed
        advance(run)

    monkeypatch.setattr(Run, "advance", advance_or_die)
    with pytest.raises(Killed):
        train(new_run(), validation, tmp_path / "checkpoint.pt", "")
    monkeypatch.setattr(Run, "advance", advance)
    resumed, steps = new_run(), []
    monkeypatch.setattr(Run, "advance", lambda run: (steps.append(run.step), advance(run)))
    train(resumed, validation, tmp_path / "checkpoint.pt", "")
    assert steps == list(range(kill_at, 16))
    assert_same(weights(resumed), weights(whole))
    assert resumed.curve == whole.curve


def test_a_checkpoint_of_another_run_is_not_taken_up(new_run, validation, tmp_path):
    other = new_run(seed=8)
    other.advance()
    other.save(tmp_path / "checkpoint.pt", "another run")
    fresh, expected = new_run(), new_run()
    train(fresh, validation, tmp_path / "checkpoint.pt", "this run")
    train(expected, validation, tmp_path / "none.pt", "this run")
    assert_same(weights(fresh), weights(expected))


def test_the_training_does_not_depend_on_how_often_it_is_measured(new_run, validation, tmp_path, monkeypatch):
    runs = []
    for n_validations in (1, 16):
        monkeypatch.setattr(loop, "N_VALIDATIONS", n_validations)
        runs.append(new_run())
        train(runs[-1], validation, tmp_path / "checkpoint.pt", "")
        assert len(runs[-1].curve) == n_validations
    assert_same(weights(runs[0]), weights(runs[1]))


def test_the_curve_has_a_row_at_the_end_and_at_most_one_a_step(new_run, validation, tmp_path):
    run = new_run(epochs=1)
    train(run, validation, tmp_path / "checkpoint.pt", "")
    assert [row["step"] for row in run.curve] == [1, 2, 3, 4]
    assert run.curve[-1]["epoch"] == 1.0


def test_the_frequencies_are_not_trained_and_everything_else_is(new_run):
    run = new_run()
    before = weights(run)
    for _ in range(3):
        run.advance()
    for key, value in run.model.state_dict().items():
        assert torch.equal(value, before[key]) == key.endswith("capsule.0.b"), key


def test_matrices_decay_and_nothing_else(model):
    decaying, rest = decay_groups(model, 0.3)
    assert (decaying["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)
    assert all(weight.ndim == 2 for weight in decaying["params"])
    assert all(weight.ndim < 2 for weight in rest["params"])
    assert len(decaying["params"]) + len(rest["params"]) == sum(w.requires_grad for w in model.parameters())


def test_the_logit_scale_stays_below_100(new_run):
    run = new_run(learning_rate=1.0)
    with torch.no_grad():
        run.model.logit_scale.fill_(math.log(100))
    for _ in range(5):
        run.advance()
    assert run.model.logit_scale.detach().exp() <= 100.001


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero():
    rates = [learning_rate_at(step, 200, 0.1) for step in range(201)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 100)
    assert max(rates) == pytest.approx(0.1)
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[200] == pytest.approx(0, abs=1e-12)
    assert learning_rate_at(0, 1, 0.1) == 0.1


def test_a_training_that_diverged_says_so(new_run, validation, tmp_path):
    run = new_run("infonce")
    with torch.no_grad():
        run.model.image_encoder.mlp[0].bias.fill_(math.nan)
    with pytest.raises(InputError, match="the loss is nan at step 1, the training diverged; lower train.learning_rate"):
        train(run, validation, tmp_path / "checkpoint.pt", "")


class Scripted:
    """A validation that measures given accuracies, one after the other."""

    def __init__(self, accuracies):
        self.accuracies = iter(accuracies)

    def measure(self, model):
        return {"accuracy_25km": next(self.accuracies), "logit_scale": model.logit_scale.item()}


@pytest.mark.parametrize(
    ("accuracies", "patience", "n_rows", "best_row"),
    [
        ([0.1, 0.3, 0.3, 0.2, 0.9], 2, 4, 1),
        ([0.1, 0.0, 0.2, 0.1, 0.3], 2, 5, 4),
        ([0.0, 0.0, 0.0, 0.0, 0.0], 1, 2, 0),
        ([0.5, 0.4, 0.3, 0.2, 0.1], 0, 5, -1),
    ],
)
def test_a_run_that_gets_no_better_stops_with_its_best_weights(
    accuracies, patience, n_rows, best_row, new_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "N_VALIDATIONS", 5)
    run = new_run(patience=patience)
    train(run, Scripted(accuracies), tmp_path / "checkpoint.pt", "")
    assert [row["accuracy_25km"] for row in run.curve] == accuracies[:n_rows]
    assert run.best_row == best_row
    assert run.model.logit_scale.item() == run.curve[best_row]["logit_scale"]


def test_all_processes_stop_by_what_the_first_measures(new_run, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "N_VALIDATIONS", 5)
    run, accuracies = new_run(patience=2), [0.1, 0.3, 0.3, 0.2, 0.9]
    first, here = Scripted(accuracies), Scripted([0.1, 0.2, 0.3, 0.4, 0.5])
    monkeypatch.setattr(Ranks, "answer_of_first", lambda *_: first.measure(run.model))
    train(run, here, tmp_path / "checkpoint.pt", "")
    assert [row["accuracy_25km"] for row in run.curve] == accuracies[:4]


def test_a_run_that_was_killed_before_it_stopped_early_stops_there_too(new_run, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "N_VALIDATIONS", 5)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    accuracies = [0.1, 0.3, 0.3, 0.2, 0.9]
    whole = new_run(patience=2)
    train(whole, Scripted(accuracies), tmp_path / "whole.pt", "")
    killed = new_run(patience=2)
    for _ in range(8):
        killed.advance()
        if killed.step in (3, 6):
            killed.add_to_curve(Scripted(accuracies[len(killed.curve) :]))
    killed.save(tmp_path / "checkpoint.pt", "")
    again = new_run(patience=2)
    train(again, Scripted(accuracies[2:]), tmp_path / "checkpoint.pt", "")
    assert_same(weights(again), weights(whole))
    assert again.curve == whole.curve


def test_features_are_read_row_by_row_across_shards():
    table = np.arange(24, dtype=np.float16).reshape(8, 3)
    read = feature_reader(FeatureRows([table[:5], table[5:]]), torch.device("cpu"))
    rows = np.array([7, 0, 5, 4, 7])
    found = read(rows)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found, table[rows])
