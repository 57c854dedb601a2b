"""The model card of a release folder, in the Hugging Face hub's format."""

from huggingface_hub import EvalResult, ModelCardData

from stages.train.validation import ACCURACY_KM

_BODY = """
# GeoCLIP heads, trained with the loss `{loss}`

Where on Earth was a street-view photo taken? An image head on frozen CLIP features and a location encoder, trained by
[VarioCLIP](https://arxiv.org/abs/2509.21573)'s pipeline into one space, after [GeoCLIP](https://arxiv.org/abs/2309.16020).

| | |
|---|---|
| image encoder | open_clip `{model}`, weights `{pretrained}`; its features are {centered} |
| training photos | {n_photos:,} of the source `{source}` |
| loss | `{loss}` {strengths} |
| recipe | {epochs:g} epochs, batch {batch_size}, queue {queue_size}, learning rate {learning_rate:g}, seed {seed} |
| gallery | `gallery.csv`: the {n_places:,} distinct training places |

## Results

Each validation photo at the training place that the model finds most similar to it:

| within | {thresholds} | median error |
|---|{rule}---:|
| share | {shares} | {median_error_km:,.0f} km |

## Use

```python
from geoclip import GeoCLIP, LocationEncoder

LocationEncoder.from_pretrained("location_encoder")  # of this folder: places to vectors
GeoCLIP.from_pretrained(".")  # the whole model; needs a backbone that the hub has
```

VarioCLIP itself: `python -m stages.predict photo.jpg --model THIS_FOLDER`.

## Limits

{limits}A photo is placed at one of the gallery's places, never between them or where no training photo was taken.
"""
_DRAWN = (
    "The photos of the source `world` are drawn, of a synthetic world: this model knows nothing of the real Earth.\n"
)


def model_card(training: dict, encoder: dict, source: str, *, n_photos: int, n_places: int, measured: dict) -> str:
    """Text of README.md: facts for the hub in YAML, then words for people.

    training, encoder: as in config.json. measured: the row of the learning curve that the weights are of.
    """
    accuracies = {km: measured[f"accuracy_{km}km"] for km in ACCURACY_KM}
    results = [
        EvalResult(
            task_type="image-geolocation",
            dataset_type=source,
            dataset_name=f"{source}, validation",
            metric_type="accuracy",
            metric_name=f"accuracy within {km} km",
            metric_value=round(accuracy, 4),
        )
        for km, accuracy in accuracies.items()
    ]
    name = f"varioclip-{training['loss']}"
    tags = ["geolocation", "geoclip", "semivariogram", "street-view"]
    facts = ModelCardData(
        license="apache-2.0", library_name="geoclip", tags=tags, model_name=name, eval_results=results
    )
    strengths = training.get(training["loss"], {})
    body = _BODY.format(
        **training | {"epochs": measured["epoch"]},
        model=encoder["model"],
        pretrained=encoder["pretrained"],
        centered="less the training mean" if encoder.get("center") else "as they are",
        source=source,
        n_photos=n_photos,
        n_places=n_places,
        strengths=", ".join(f"{key} {value:g}" for key, value in strengths.items()),
        thresholds=" | ".join(f"{km:,} km" for km in ACCURACY_KM),
        rule="---:|" * len(ACCURACY_KM),
        shares=" | ".join(f"{accuracy:.1%}" for accuracy in accuracies.values()),
        median_error_km=measured["median_error_km"],
        limits=_DRAWN if source == "world" else "",
    )
    return f"---\n{facts.to_yaml()}\n---\n{body}"
