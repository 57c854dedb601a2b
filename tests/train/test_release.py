import importlib
import json
import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from stages.cli import InputError
from stages.features.encoder import center
from stages.train.model import seeded_model
from stages.train.release import backbone, load_release, read_weights, start_from, write_release
from stages.train.usage import use_with_geoclip

GEOCLIP = {"embedding_width": 512, "hidden_width": 1024, "fourier_width": 256, "sigmas": [1, 16, 256]}
FACTS = {
    "sigma": [1.0, 16.0],
    "backbone": {"repo_id": "tiny/untrained", "revision": "main"},
    "encoder": {"center": None},
    "training": {"seed": 3},
}
PLACES = pl.DataFrame({"latitude": [10.5, -3.25, 10.5, 10.5], "longitude": [170.125, 0.0, 170.125, -170.0]})


def write(folder, model, **facts):
    write_release(folder, model, PLACES, FACTS | facts)
    return folder


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_release_gives_back_the_model(tmp_path, model):
    loaded = load_release(write(tmp_path, model))
    place = torch.tensor([1.0, -80.0]), torch.tensor([2.0, 179.0])
    feature = torch.randn(3, 6)
    assert torch.equal(loaded.place_embedding(*place), model.place_embedding(*place))
    assert torch.equal(loaded.image_embedding(feature), model.image_embedding(feature))
    assert loaded.logit_scale == model.logit_scale
    assert loaded.device == torch.device("cpu")
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_weights_have_geoclips_names(tmp_path, model):
    keys = set(load_file(write(tmp_path, model) / "model.safetensors"))
    capsule = [f"capsule.{layer}.{part}" for layer in (1, 3, 5) for part in ("weight", "bias")]
    capsule += ["capsule.0.b", "head.0.weight", "head.0.bias"]
    assert keys == {
        "logit_scale",
        *(f"image_encoder.mlp.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")),
        *(f"location_encoder.LocEnc{index}.{key}" for index in range(2) for key in capsule),
    }


def test_the_gallery_is_the_distinct_places_and_the_config_says_where_they_are(tmp_path, model):
    config = json.loads((write(tmp_path, model) / "config.json").read_text())
    assert (config["model_type"], config["format_version"]) == ("geoclip-geolocation", 1)
    assert config["training"] == {"seed": 3}
    gallery = (tmp_path / config["gallery_file"]).read_text()
    assert gallery == "LAT,LON\n10.5,170.125\n-3.25,0.0\n10.5,-170.0\n"


def test_a_release_written_twice_has_the_same_bytes(tmp_path, model):
    assert files(write(tmp_path / "one", model)) == files(write(tmp_path / "two", model))


def test_the_backbone_of_geoclip_is_known_and_others_keep_their_names():
    assert backbone("ViT-L-14-quickgelu", "openai")["repo_id"] == "openai/clip-vit-large-patch14"
    assert backbone("varioclip-tiny", "untrained")["repo_id"] == "varioclip-tiny/untrained"


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere is no GeoCLIP release.*model.safetensors"):
        load_release(tmp_path / "nowhere")


def test_the_release_of_a_location_encoder_alone_is_refused(tmp_path, model):
    with pytest.raises(InputError, match="says model_type 'geoclip-location-encoder'.*'geoclip-geolocation', 1"):
        load_release(write(tmp_path, model) / "location_encoder")


def test_weights_of_something_else_are_refused(tmp_path, model):
    write(tmp_path, model)
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="are not GeoCLIP's"):
        load_release(tmp_path)


def test_training_starts_from_a_release(tmp_path, model):
    start = seeded_model(9, feature_width=6, embedding_width=8, hidden_width=16, fourier_width=4, sigmas=[1.0, 16.0])
    start_from(start, write(tmp_path, model), [1.0, 16.0])
    expected = model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in start.state_dict().items())


def clip_features(n, width, seed, length):
    """Features (n, width) that have a mean, of unit length; the same as CLIP would give them, of some other length."""
    rng = np.random.default_rng(seed)
    mean = np.random.default_rng(0).normal(size=width)
    feature = 0.75 * mean / np.linalg.norm(mean) + 0.66 * rng.normal(size=(n, width)) / math.sqrt(width)
    feature = (feature / np.linalg.norm(feature, axis=1, keepdims=True)).astype(np.float32)
    return feature, torch.from_numpy((feature * rng.normal(length, 0.1 * length, (n, 1))).astype(np.float32))


def test_training_starts_from_the_same_answers_whatever_was_subtracted_from_the_features(tmp_path):
    """Wide features, so that all are about as long after centring, which the first layer can't undo for each alone."""
    widths = {
        "feature_width": 4096,
        "embedding_width": 8,
        "hidden_width": 16,
        "fourier_width": 4,
        "sigmas": [1.0, 16.0],
    }
    trained, start = seeded_model(5, **widths), seeded_model(9, **widths)
    feature, _ = clip_features(500, 4096, seed=1, length=1)
    here, elsewhere = feature.mean(0), clip_features(500, 4096, seed=2, length=1)[0].mean(0)
    for its, ours in ((elsewhere, here), (elsewhere, None), (None, here), (here, here)):
        as_list = [None if mean is None else mean.tolist() for mean in (its, ours)]
        folder = write(tmp_path, trained, encoder={"center": as_list[0]})
        start_from(start, folder, widths["sigmas"], as_list[1])
        expected, found = (
            model.image_embedding(torch.from_numpy(center(feature, mean)))
            for model, mean in ((trained, its), (start, ours))
        )
        assert (expected * found).sum(1).min() > 0.99
        if its is ours:
            assert torch.equal(start.image_encoder.mlp[0].weight, trained.image_encoder.mlp[0].weight)
            assert torch.equal(start.image_encoder.mlp[0].bias, trained.image_encoder.mlp[0].bias)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_width": 7}, r"image_encoder.mlp.0.bias is \(6,\) in .* and \(7,\) by params.yaml.*features.model"),
        ({"embedding_width": 9}, r"image_encoder.mlp.2.bias is \(8,\).*\(9,\).*train.embedding_width"),
        ({"hidden_width": 17}, r"LocEnc0.capsule.1.bias is \(16,\).*\(17,\).*train.hidden_width"),
        ({"fourier_width": 5}, r"LocEnc0.capsule.0.b is \(4, 2\).*\(5, 2\).*train.fourier_width"),
        ({"sigmas": [1.0, 8.0]}, r"has the sigmas \[1.0, 16.0\], params.yaml has \[1.0, 8.0\]; change train.sigmas"),
    ],
)
def test_a_release_that_does_not_fit_names_the_weight_and_the_param(change, message, tmp_path, model):
    widths = {"feature_width": 6, "embedding_width": 8, "hidden_width": 16, "fourier_width": 4, "sigmas": [1.0, 16.0]}
    widths |= change
    with pytest.raises(InputError, match=message):
        start_from(seeded_model(1, **widths), write(tmp_path, model), widths["sigmas"])


class Backbone(torch.nn.Module):
    """Stands in for geoclip's CLIP: an image is already its feature."""

    config = None

    @classmethod
    def from_pretrained(cls, *_):
        return cls()

    def get_image_features(self, pixel_values):
        return pixel_values


@pytest.fixture
def geoclip(monkeypatch):
    """The geoclip package, with its CLIP replaced by the identity."""
    importlib.import_module("stages.features.encoder")  # makes torchvision importable beside a CPU torch
    geoclip = pytest.importorskip("geoclip", reason="needs the extra 'peers'", exc_type=ImportError)
    monkeypatch.setattr("geoclip.model.image_encoder.CLIPModel", Backbone)
    monkeypatch.setattr("geoclip.model.image_encoder.AutoProcessor", Backbone)
    monkeypatch.setattr("geoclip.model._hub.snapshot_download", lambda **_: "unused")
    return geoclip


PLACE = torch.tensor([[0.0, 0.0], [90.0, 12.0], [-90.0, 0.0], [51.5, -0.1], [-17.0, 180.0], [48.0, 11.0]]).double()


def test_with_geoclips_weights_our_heads_return_what_geoclips_return(geoclip):
    """In float64, so that only the formulas can differ: geoclip sums its capsules in float32."""
    theirs = geoclip.GeoCLIP(clip_path="unused").double()
    ours = seeded_model(1, feature_width=768, **GEOCLIP)
    ours.load_state_dict(read_weights(Path(geoclip.__file__).parent / "model" / "weights")[0])
    ours.double()
    feature = torch.randn(5, 768, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        location = ours.location_encoder(*PLACE.T)
        np.testing.assert_allclose(location, theirs.location_encoder(PLACE), atol=1e-5)
        np.testing.assert_allclose(ours.image_encoder(feature), theirs.image_encoder(feature), atol=1e-5)
    assert ours.logit_scale == theirs.logit_scale


@pytest.mark.parametrize("length", [10, 20])
@pytest.mark.parametrize("is_centered", [True, False])
def test_from_geoclips_weights_training_starts_with_geoclips_answers(geoclip, length, is_centered):
    theirs = geoclip.GeoCLIP(clip_path="unused")
    feature, raw = clip_features(2000, 768, seed=1, length=length)
    mean = feature.mean(0) if is_centered else None
    ours = seeded_model(1, feature_width=768, **GEOCLIP)
    weights = Path(geoclip.__file__).parent / "model" / "weights"
    start_from(ours, weights, GEOCLIP["sigmas"], mean.tolist() if is_centered else None)
    with torch.no_grad():
        its = torch.nn.functional.normalize(theirs.image_encoder(raw), dim=1)
        # Without the change of the first layer it is 0.3 to 0.6.
        assert (its * ours.image_embedding(torch.from_numpy(center(feature, mean)))).sum(1).mean() > 0.99


def test_geoclip_loads_our_release_and_predicts_the_same_places(geoclip, tmp_path):
    ours = seeded_model(1, feature_width=768, **GEOCLIP)
    facts = {"sigma": [1.0, 16.0, 256.0], "backbone": backbone("ViT-L-14-quickgelu", "openai")}
    gallery = pl.DataFrame({"latitude": PLACE[:, 0].numpy(), "longitude": PLACE[:, 1].numpy()})
    write_release(tmp_path, ours, gallery, facts)
    theirs = geoclip.GeoCLIP.from_pretrained(tmp_path)
    location = geoclip.LocationEncoder.from_pretrained(tmp_path / "location_encoder")
    feature = torch.randn(200, 768, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mine = ours.image_embedding(feature) @ ours.place_embedding(*PLACE.T).T
        its = theirs(feature, theirs.gps_gallery) / theirs.logit_scale.exp()
        # float32 coordinates at sigma 256: a rounding of 1e-7 is a phase of some 1e-4.
        np.testing.assert_allclose(its, mine, atol=1e-3)
        np.testing.assert_allclose(location(PLACE.float()), theirs.location_encoder(PLACE.float()), atol=1e-6)
    assert (its.argmax(1) == mine.argmax(1)).double().mean() > 0.99


def test_the_weights_that_geoclip_ships_have_every_key_of_ours(geoclip):
    weights, config = read_weights(Path(geoclip.__file__).parent / "model" / "weights")
    assert config == {}
    assert weights.keys() == seeded_model(1, feature_width=768, **GEOCLIP).state_dict().keys()


class RawBackbone(Backbone):
    """Stands in for CLIP with its processor: a photo's row of 768 greys is its feature, ten times as long as ours."""

    def __call__(self, images, **_):
        return {"pixel_values": torch.from_numpy(np.asarray(images)[0, :, 0] / 127.5 - 1).float()[None]}

    def get_image_features(self, pixel_values):
        return 10 * pixel_values / pixel_values.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("is_centered", [True, False])
def test_with_the_code_of_its_card_geoclip_finds_the_places_that_we_find(geoclip, tmp_path, monkeypatch, is_centered):
    monkeypatch.setattr("geoclip.model.image_encoder.CLIPModel", RawBackbone)
    monkeypatch.setattr("geoclip.model.image_encoder.AutoProcessor", RawBackbone)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    ours = seeded_model(1, feature_width=768, **GEOCLIP)
    ours.load_state_dict(read_weights(Path(geoclip.__file__).parent / "model" / "weights")[0])
    grey = rng.integers(0, 256, 768, dtype=np.uint8)
    Image.fromarray(grey[None]).save("photo.jpg", "PNG")
    feature = (grey / 127.5 - 1).astype(np.float32)[None]
    feature /= np.linalg.norm(feature)
    mean = (0.8 * feature[0] + rng.normal(0, 0.02, 768)).astype(np.float32) if is_centered else None
    places = pl.DataFrame({"latitude": rng.uniform(-80, 80, 300), "longitude": rng.uniform(-180, 180, 300)})
    encoder = {"model": "ViT-L-14", "pretrained": "openai", "center": mean.tolist() if is_centered else None}
    facts = {"sigma": [1.0, 16.0, 256.0], "backbone": backbone("ViT-L-14", "openai"), "encoder": encoder}
    write_release(tmp_path, ours, places, facts)

    made = {}
    for code in re.findall("```python\n(.*?)```", use_with_geoclip(GEOCLIP, encoder), re.DOTALL):
        exec(code, made)
    with torch.no_grad():
        image = ours.image_embedding(torch.from_numpy(center(feature, mean)))
        embeddings = ours.place_embedding(*torch.from_numpy(places.to_numpy()).T)
        probability = (ours.logit_scale.exp() * image @ embeddings.T).softmax(1)[0]
        expected = probability.topk(5)
        np.testing.assert_allclose(made["places"], places[expected.indices.numpy()].to_numpy(), rtol=1e-6)
        # As above for the coordinates, times geoclip's logit scale of some 40.
        np.testing.assert_allclose(made["probabilities"], expected.values, rtol=0.05)
        vectors = made["location_encoder"](made["places"])
        np.testing.assert_allclose(torch.nn.functional.normalize(vectors), embeddings[expected.indices], atol=1e-3)
    found, _ = geoclip.GeoCLIP.from_pretrained(tmp_path).predict("photo.jpg", 5)
    assert not np.allclose(found, made["places"], atol=1e-3)  # what the card warns of
