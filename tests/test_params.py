from pathlib import Path

import pytest

from stages.cli import InputError
from stages.params import Params, load_params

TEXT = Path("params.yaml").read_text()


def load_with(tmp_path, old, new):
    assert old in TEXT
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace(old, new))
    return load_params(path)


def test_the_file_in_the_repository_is_valid():
    assert isinstance(load_params(), Params)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs:", "epocs:", r"train\.epocs: 'epocs' is not a key of section 'train'; did you mean 'epochs'\?"),
        ("  epochs:", "  zzz: 1\n  epochs:", r"'zzz' is not a key of section 'train'; choose from: batch_size"),
        ("train:\n", "trian:\n", r"trian: 'trian' is not a key of section 'params.yaml'; did you mean 'train'\?"),
        ("  n_train:", "  n_tran:", r"data\.world\.n_train: key 'n_train' is missing from section 'data.world'"),
        ("batch_size: 512", "batch_size: many", r"train\.batch_size: 'many' is wrong: should be a valid integer"),
        ("batch_size: 512", "batch_size: 0.5", r"train\.batch_size: 0\.5 is wrong"),
        ("beta_hard: ", "beta_hard: -", r"train\.semivariogram\.beta_hard: -.* greater than or equal to 0"),
        ("center: true", "center: 1", r"features\.center: 1 is wrong: should be a valid boolean"),
        ("source: world", "source: wold", r"data\.source: 'wold' is wrong: should be 'world', 'hub' or 'mirror'"),
        ("losses: [", "losses: [infonce, ", r"train\.losses: .* names one twice"),
        (
            "refine: [",
            "refine: [hard_negative, ",
            r"evaluate\.refine: 'hard_negative' is not trained, train\.losses is ",
        ),
        ("refine: [", "refine: [tripplet, ", r"evaluate\.refine\.0: 'tripplet' is wrong: should be 'infonce', "),
        ("losses: [", "losses: [tripplet, ", r"train\.losses\.0: 'tripplet' is wrong: should be 'infonce', "),
        (
            "bounding_box: null",
            "bounding_box: [10, 0, 5, 9]",
            r"filter\.bounding_box: .* should be \[south, west, north, e",
        ),
        (
            "bounding_box: null",
            "bounding_box: [5]",
            r"shard\.filter\.bounding_box: \[5\] is wrong: List should have at le",
        ),
        ("countries: []", "countries: [Kenya]", r"shard\.filter\.countries\.0: 'Kenya' is wrong: String should match"),
        (
            "max_photos:",
            "max_photo:",
            r"'max_photo' is not a key of section 'shard\.filter'; did you mean 'max_photos'\?",
        ),
        ("top_k: 5", "top_k: 0", r"evaluate\.top_k: 0 is wrong: should be greater than or equal to 1"),
    ],
)
def test_a_wrong_param_is_named_with_its_rule(tmp_path, old, new, message):
    with pytest.raises(InputError, match=message):
        load_with(tmp_path, old, new)


def test_every_wrong_param_is_listed(tmp_path):
    with pytest.raises(InputError) as error:
        load_with(tmp_path, "batch_size: 512", "batch_size: x\n  epocs: 1")
    assert len(str(error.value).splitlines()) == 2


def test_a_misspelt_key_comes_before_the_key_that_is_missing_for_it(tmp_path):
    with pytest.raises(InputError, match=r"did you mean 'epochs'\?\n.*key 'epochs' is missing"):
        load_with(tmp_path, "  epochs:", "  epochz:")


def test_numbers_read_as_dvc_reads_them(tmp_path):
    assert load_with(tmp_path, "learning_rate: 0.001", "learning_rate: 1e-3").train.learning_rate == 1e-3


@pytest.mark.parametrize(("text", "message"), [("a: [", "is not YAML"), ("", "valid dictionary"), (None, "is not in")])
def test_a_file_that_is_not_params_is_one_clear_error(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_params(path)
