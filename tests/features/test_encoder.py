import json
import logging

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stages.cli import InputError
from stages.features import encoder as module
from stages.features.encoder import UNTRAINED, center, load_encoder, open_clip

TEXT = {"context_length": 8, "vocab_size": 8, "width": 16, "heads": 1, "layers": 1}
TOWERS = {
    "tests-vit": {"vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}},
    "tests-resnet": {"vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}},
    "tests-timm": {
        "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}
    },
    "tests-coca": {
        "vision_cfg": {
            **{"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
            **{"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        },
        "multimodal_cfg": {"context_length": 8, "vocab_size": 8, "width": 16, "heads": 1, "layers": 1},
        "custom_text": True,
    },
}


@pytest.fixture(scope="module", autouse=True)
def _towers(tmp_path_factory):
    """One small model of each kind that open_clip has."""
    folder = tmp_path_factory.mktemp("towers")
    for name, config in TOWERS.items():
        (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 24, "text_cfg": TEXT, **config}))
    open_clip.add_model_config(folder)


def model_of(seed, name="varioclip-tiny", **options):
    """open_clip's own model with the weights of a seed, and its preprocessing."""
    torch.manual_seed(seed)
    model, _, preprocess = open_clip.create_model_and_transforms(name, **options)
    return model.eval(), preprocess


@torch.inference_mode()
def expected_feature(model, preprocess, photos):
    return model.encode_image(torch.stack([preprocess(p) for p in photos]), normalize=True).numpy()


def encoded(encoder, photos):
    return encoder.encode(torch.stack([encoder.preprocess(p) for p in photos]))


@pytest.mark.parametrize("name", ["varioclip-tiny", *TOWERS])
def test_features_are_open_clips_own_for_every_kind_of_tower(name, photo):
    photos = [photo(seed) for seed in range(3)]
    encoder = load_encoder(name, UNTRAINED, 5)
    feature = encoded(encoder, photos)
    assert feature.dtype == np.float32
    assert feature.shape == (3, encoder.width)
    np.testing.assert_allclose(feature, expected_feature(*model_of(5, name), photos), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(feature, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_weights_file_gives_its_weights_whatever_the_seed(suffix, tmp_path, photo):
    model, preprocess = model_of(7)
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(model.state_dict(), path)
    photos = [photo(0), photo(1)]
    feature = encoded(load_encoder("varioclip-tiny", str(path), 1), photos)
    np.testing.assert_allclose(feature, expected_feature(model, preprocess, photos), atol=1e-6)


@pytest.mark.parametrize("is_quick", [True, False])
def test_a_weights_tag_decides_the_activation_and_the_preprocessing(is_quick, tmp_path, photo, monkeypatch):
    model, preprocess = model_of(7, force_quick_gelu=is_quick, image_mean=(0.5,) * 3)
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    tag = {"hf_hub": "someone/tiny/", "file": str(path), "quick_gelu": is_quick, "mean": (0.5,) * 3}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "varioclip-tiny", {"tag": tag})
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda repository, name: str(path))
    encoder = load_encoder("varioclip-tiny", "tag", 1)
    assert encoder.preprocessing["mean"] == (0.5,) * 3
    photos = [photo(0), photo(1)]
    np.testing.assert_allclose(encoded(encoder, photos), expected_feature(model, preprocess, photos), atol=1e-6)
    if is_quick:  # and the activation is no detail
        other = expected_feature(load_into(model, quick_gelu=False), preprocess, photos)
        assert abs(encoded(encoder, photos) - other).max() > 1e-4


def load_into(model, *, quick_gelu):
    copy, _ = model_of(0, force_quick_gelu=quick_gelu)
    copy.load_state_dict(model.state_dict())
    return copy


@pytest.mark.parametrize("model", ["ViT-B-32", "ViT-L-14"])
def test_open_clip_says_that_openais_weights_want_quickgelu(model):
    assert open_clip.get_pretrained_cfg(model, "openai")["quick_gelu"]


def test_a_seed_gives_its_weights_and_another_seed_others(photo):
    one, again, other = (load_encoder("varioclip-tiny", UNTRAINED, seed).visual.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


def test_the_callers_random_numbers_go_on_undisturbed():
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    load_encoder("varioclip-tiny", UNTRAINED, 1)
    assert torch.equal(torch.rand(4), expected)


def test_only_weights_that_are_meant_to_be_random_are_no_warning(caplog):
    load_encoder("varioclip-tiny", UNTRAINED, 1)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    open_clip.create_model("varioclip-tiny")
    assert "No pretrained weights loaded" in caplog.text


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_kind_of_image_is_embedded_as_its_rgb(mode, photo, encoder):
    picture = photo(3, mode="L").convert("I;16") if mode == "I;16" else photo(3, mode=mode)
    assert picture.mode == mode
    assert torch.equal(encoder.preprocess(picture), encoder.preprocess(picture.convert("RGB")))


def test_an_unknown_model_is_answered_with_the_nearest_names():
    with pytest.raises(InputError, match=r"features.model: 'ViT-B32' is no open_clip model; did you mean .*ViT-B-32"):
        load_encoder("ViT-B32", UNTRAINED, 1)
    with pytest.raises(InputError, match=r"'\?' is no open_clip model; did you mean \w+"):
        load_encoder("?", UNTRAINED, 1)


def test_an_unknown_tag_is_answered_with_the_models_tags():
    with pytest.raises(InputError, match="'opena' is neither a file nor a weights tag of ViT-B-32; its tags: openai, "):
        load_encoder("ViT-B-32", "opena", 1)
    with pytest.raises(InputError, match="its tags: none; use untrained or a weights file"):
        load_encoder("varioclip-tiny", "openai", 1)


@pytest.mark.parametrize(
    ("model", "tag", "fetch"),
    [
        ("ViT-B-32", "openai", "timm/vit_base_patch32_clip_224.openai open_clip_model.safetensors"),
        ("ViTamin-S", "datacomp1b", "jienengchen/ViTamin-S pytorch_model.bin"),
    ],
)
def test_weights_that_are_not_to_be_had_are_named_with_the_ways_out(model, tag, fetch, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9")  # nothing listens there
    message = rf"'{tag}' of {model} are not on this machine, .*Run `hf download {fetch}` .* varioclip-tiny"
    with pytest.raises(InputError, match=message):
        load_encoder(model, tag, 1)


def test_a_file_that_is_no_weights_and_weights_of_another_model_are_refused(tmp_path):
    no_weights, others = tmp_path / "text.pt", tmp_path / "others.safetensors"
    no_weights.write_text("no weights")
    save_file({"a": torch.zeros(1)}, others)
    for path in (no_weights, others):
        with pytest.raises(InputError, match=f"cannot make varioclip-tiny with '{path}' .*; name weights of this"):
            load_encoder("varioclip-tiny", str(path), 1)


def test_centering_is_subtraction_and_normalisation():
    rng = np.random.default_rng(0)
    feature, mean = rng.normal(size=(20, 7)), rng.normal(size=7)
    expected = (feature - mean) / np.linalg.norm(feature - mean, axis=1, keepdims=True)
    centered = center(feature.astype(np.float32), mean.astype(np.float32))
    assert centered.dtype == np.float32
    np.testing.assert_allclose(centered, expected, atol=1e-6)
    assert center(feature, None) is feature


def test_a_feature_that_is_the_mean_has_no_direction():
    assert not center(np.ones((1, 4), np.float32), np.ones(4, np.float32)).any()
