import pytest
from huggingface_hub import ModelCard

from stages.params import load_params
from stages.train.card import model_card
from stages.train.losses import LOSSES
from stages.train.setup import run_facts
from stages.train.usage import GEOCLIP_WIDTHS

MEASURED = {"epoch": 12.5, "median_error_km": 1234.5} | {f"accuracy_{km}km": km / 10_000 for km in (1, 25, 200, 2500)}


def card(name="semivariogram", source="world", widths=GEOCLIP_WIDTHS, **encoder):
    training = run_facts(name, load_params().train) | widths
    encoder = {"model": "ViT-L-14", "pretrained": "openai", "center": None, **encoder}
    return model_card(training, encoder, source, n_photos=12_000, n_places=9876, measured=MEASURED, temperature=1.25)


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
    assert "weights `openai`; its features are of unit length, less the training mean |" in text
    assert "| share | 0.0% | 0.2% | 2.0% | 25.0% | 1,234 km |" in text
    assert "| temperature | 1.25: the logits were divided by it" in text
    assert "the 9,876 distinct training places" in text
    assert "its features are of unit length |" in card()


def test_a_drawn_world_is_called_one():
    assert "nothing of the real Earth" in card()
    assert "nothing of the real Earth" not in card(source="hub")


def test_a_card_of_the_hubs_photos_names_osv5m_and_the_model_that_it_builds_on():
    read = ModelCard(card(source="hub")).data
    assert (read.datasets, read.base_model) == (["osv5m/osv5m"], "openai/clip-vit-large-patch14")
    assert {(r.dataset_type, r.dataset_name) for r in read.eval_results} == {("osv5m/osv5m", "OSV5M, validation")}
    assert "12,000 of [OSV5M](https://huggingface.co/datasets/osv5m/osv5m) |" in card(source="hub")


def test_a_card_claims_no_data_set_model_or_library_that_is_not_so():
    read = ModelCard(card(model="varioclip-tiny", pretrained="untrained")).data
    assert (read.datasets, read.base_model, read.library_name) == (None, None, None)
    assert read.eval_results[0].dataset_type == "world"
    assert "of the source `mirror` |" in card(source="mirror")


def test_a_card_says_what_geoclip_cannot_load_and_shows_only_what_works():
    text = card(widths={"embedding_width": 256, "hidden_width": 1024, "fourier_width": 128})
    assert (
        "cannot load this model: its heads are others (embedding_width 256, not 512, fourier_width 128, not 2" in text
    )
    assert "```python" not in text
    assert "python -m stages.predict photo.jpg --model THIS_FOLDER" in text
    text = card(model="ViT-B-32")
    assert "cannot load this model: its image encoder is not OpenAI's ViT-L-14, the only one that `geoclip` ta" in text
    assert "from geoclip import LocationEncoder" in text
    assert "import GeoCLIP" not in text
    text = card(model="ViT-B-32", widths={})
    assert "takes; its heads are others (" in text
    assert "```python" not in text
