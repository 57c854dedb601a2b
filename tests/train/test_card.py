import pytest
from huggingface_hub import ModelCard

from stages.params import load_params
from stages.train.card import model_card
from stages.train.losses import LOSSES
from stages.train.setup import run_facts

MEASURED = {"epoch": 12.5, "median_error_km": 1234.5} | {f"accuracy_{km}km": km / 10_000 for km in (1, 25, 200, 2500)}


def card(name="semivariogram", source="world", **encoder):
    training = run_facts(name, load_params().train)
    encoder = {"model": "ViT-L-14", "pretrained": "openai", "center": None, **encoder}
    return model_card(training, encoder, source, n_photos=12_000, n_places=9876, measured=MEASURED)


@pytest.mark.parametrize("name", LOSSES)
def test_the_hub_reads_what_was_measured(name):
    read = ModelCard(card(name)).data
    assert (read.library_name, read.license, read.model_name) == ("geoclip", "apache-2.0", f"varioclip-{name}")
    assert [result.metric_value for result in read.eval_results] == [0.0001, 0.0025, 0.02, 0.25]
    assert [result.metric_name for result in read.eval_results][1] == "accuracy within 25 km"


def test_a_person_reads_how_it_was_made():
    text = card(center=[0.0])
    strengths = load_params().train.semivariogram
    assert f"`semivariogram` beta_hard {strengths.beta_hard:g}, beta_false {strengths.beta_false:g}" in text
    assert "12.5 epochs, batch 512" in text
    assert "weights `openai`; its features are less the training mean" in text
    assert "| share | 0.0% | 0.2% | 2.0% | 25.0% | 1,234 km |" in text
    assert "the 9,876 distinct training places" in text
    assert "its features are as they are" in card()


def test_a_drawn_world_is_called_one():
    assert "nothing of the real Earth" in card()
    assert "nothing of the real Earth" not in card(source="hub")
