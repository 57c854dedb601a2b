"""The model card of a release folder, in the Hugging Face hub's format."""

from huggingface_hub import EvalResult, ModelCardData

from stages.train.release import GEOCLIP_BACKBONE, backbone
from stages.train.usage import is_geoclips, use_with_geoclip
from stages.train.validation import ACCURACY_KM

_BODY = """
# GeoCLIP heads, trained with the loss `{loss}`

Where on Earth was a street-view photo taken? An image head on frozen CLIP features and a location encoder, trained by
[VarioCLIP](https://arxiv.org/abs/2509.21573)'s pipeline into one space, after [GeoCLIP](https://arxiv.org/abs/2309.16020).

| | |
|---|---|
| image encoder | open_clip `{model}`, weights `{pretrained}`; its features are {centered} |
| training photos | {n_photos:,} of {photos_of} |
| loss | `{loss}` {strengths} |
| recipe | {epochs:g} epochs, batch {batch_size}, queue {queue_size}, learning rate {learning_rate:g}, seed {seed} |
| temperature | {temperature:.2f}: the logits were divided by it after training, as the validation photos want it |
| gallery | `gallery.csv`: the {n_places:,} distinct training places |

## Results

Each validation photo at the training place that the model finds most similar to it:

| within | {thresholds} | median error |
|---|{rule}---:|
| share | {shares} | {median_error_km:,.0f} km |

## Use

In a checkout of VarioCLIP: `python -m stages.predict photo.jpg --model THIS_FOLDER`.

{with_geoclip}

## Limits

{limits}A photo is placed at one of the gallery's places, never between them or where no training photo was taken.
"""
_DRAWN = (
    "The photos of the source `world` are drawn, of a synthetic world: this model knows nothing of the real Earth.\n"
)
_OSV5M = "osv5m/osv5m"  # on the hub; the source `hub`


def model_card(
    training: dict,
    encoder: dict,
    source: str,
    *,
    n_photos: int,
    n_places: int,
    measured: dict,
    temperature: float,
) -> str:
    """Text of README.md: facts for the hub in YAML, then words for people.

    training, encoder: as in config.json. measured: the row of the learning curve that the weights are of. temperature:
    that the logits were divided by.
    """
    accuracies = {km: measured[f"accuracy_{km}km"] for km in ACCURACY_KM}
    strengths = training.get(training["loss"], {})
    body = _BODY.format(
        **training | {"epochs": measured["epoch"]},
        model=encoder["model"],
        pretrained=encoder["pretrained"],
        centered="of unit length, less the training mean" if encoder.get("center") else "of unit length",
        photos_of=f"[OSV5M](https://huggingface.co/datasets/{_OSV5M})" if source == "hub" else f"the source `{source}`",
        n_photos=n_photos,
        n_places=n_places,
        temperature=temperature,
        strengths=", ".join(f"{key} {value:g}" for key, value in strengths.items()),
        thresholds=" | ".join(f"{km:,} km" for km in ACCURACY_KM),
        rule="---:|" * len(ACCURACY_KM),
        shares=" | ".join(f"{accuracy:.1%}" for accuracy in accuracies.values()),
        median_error_km=measured["median_error_km"],
        with_geoclip=use_with_geoclip(training, encoder),
        limits=_DRAWN if source == "world" else "",
    )
    return f"---\n{_for_the_hub(training, encoder, source, accuracies).to_yaml()}\n---\n{body}"


def _for_the_hub(training: dict, encoder: dict, source: str, accuracies: dict[int, float]) -> ModelCardData:
    """The hub's facts: what the model is made of and how good it is, by the distance in km."""
    is_osv5m = source == "hub"
    results = [
        EvalResult(
            task_type="image-geolocation",
            dataset_type=_OSV5M if is_osv5m else source,
            dataset_name=f"{'OSV5M' if is_osv5m else source}, validation",
            metric_type="accuracy",
            metric_name=f"accuracy within {km} km",
            metric_value=round(accuracy, 4),
        )
        for km, accuracy in accuracies.items()
    ]
    base_model = backbone(encoder["model"], encoder["pretrained"])["repo_id"]
    return ModelCardData(
        license="apache-2.0",
        library_name="geoclip" if is_geoclips(training, encoder) else None,
        tags=["geolocation", "geoclip", "semivariogram", "street-view"],
        base_model=base_model if base_model == GEOCLIP_BACKBONE else None,  # the name of another is no repository's
        datasets=[_OSV5M] if is_osv5m else None,
        model_name=f"varioclip-{training['loss']}",
        eval_results=results,
    )
