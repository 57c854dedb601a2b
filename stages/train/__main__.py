"""Train GeoCLIP's heads with one of the losses; write a release folder and a learning curve."""

import json
import sys
from pathlib import Path
from typing import Annotated

import polars as pl
import torch
import typer

from stages.cli import InputError, run, show_table
from stages.params import Params, load_params
from stages.shards import written_whole
from stages.train.calibration import calibrate
from stages.train.card import model_card
from stages.train.launch import launch
from stages.train.loop import Run, train
from stages.train.losses import LOSSES
from stages.train.ranks import Ranks, check, is_launched, joined
from stages.train.release import backbone, write_release
from stages.train.setup import fingerprint, prepare, read_split, run_facts, validation_of
from stages.train.validation import ACCURACY_KM
from stages.variogram.models import read_model

MODELS, REPORTS, CHECKPOINTS = Path("data/models"), Path("reports/training"), Path("data/checkpoints")
VARIOGRAM = Path("data/variogram/model.json")


def main(name: Annotated[str, typer.Argument(metavar="LOSS", help=f"One of: {', '.join(LOSSES)}.")]) -> None:
    """Train GeoCLIP's heads with one of the losses."""
    if name not in LOSSES:
        raise InputError(f"loss '{name}' is not known; choose one of: {', '.join(LOSSES)}")
    params = load_params()
    check(params.train.batch_size, params.train.n_processes)
    if params.train.n_processes > 1 and not is_launched():
        sys.exit(launch(params.train.n_processes, ["-m", "stages.train", name]))
    with joined() as (ranks, device):
        train_and_write(name, params, ranks, device)


def train_and_write(name: str, params: Params, ranks: Ranks, device: torch.device) -> None:
    """Train with a loss; the first process writes the release folder and the learning curve."""
    p, folder = params.train, Path("data") / params.data.source / "features"
    training, validation = read_split(folder / "train"), read_split(folder / "val")
    encoder = json.loads((folder / "encoder.json").read_text())
    semivariogram = read_model(VARIOGRAM) if LOSSES[name].uses_semivariogram else None

    facts, checkpoint = run_facts(name, p), CHECKPOINTS / f"{name}.pt"
    this_run = prepare(name, p, training, semivariogram, device=device, center=encoder.get("center"), ranks=ranks)
    made_from = fingerprint(facts, [training, validation], this_run)
    photos = validation_of(training, validation, device)
    try:
        images_per_second = train(this_run, photos, checkpoint, made_from)
    except torch.cuda.OutOfMemoryError:
        raise InputError(
            f"a batch of {p.batch_size} with a queue of {p.queue_size} does not fit the GPU's memory; "
            "lower train.batch_size or train.queue_size"
        ) from None
    if ranks.rank > 0:
        return

    # Not a part of the run: what it learned, its curve and its checkpoint stay as they are.
    temperature = calibrate(this_run.model, photos)
    origin = {"source": params.data.source, "encoder": encoder, "training": facts, "temperature": temperature}
    described = {"sigma": p.sigmas, "backbone": backbone(encoder["model"], encoder["pretrained"])} | origin
    write_release(MODELS / name, this_run.model, training.places, described)
    n_places = training.places.select("latitude", "longitude").n_unique()
    card = model_card(
        facts,
        encoder,
        params.data.source,
        n_photos=len(training.places),
        n_places=n_places,
        measured=this_run.curve[this_run.best_row],
        temperature=temperature,
    )
    with written_whole(MODELS / name / "README.md") as temporary:
        temporary.write_text(card)
    with written_whole(REPORTS / f"{name}.csv") as temporary:
        pl.DataFrame(this_run.curve).write_csv(temporary)
    checkpoint.unlink(missing_ok=True)
    show_summary(name, this_run, images_per_second, temperature)


def show_summary(name: str, finished: Run, images_per_second: float, temperature: float) -> None:
    """Print how the run ended."""
    last = finished.curve[finished.best_row]
    accuracies = [(f"validation accuracy {km} km", f"{last[f'accuracy_{km}km']:.1%}") for km in ACCURACY_KM]
    rows = [
        ("epochs", f"{finished.step / finished.batches.steps_per_epoch:g}"),
        ("images a second", f"{images_per_second:,.0f}"),
        ("seconds", f"{finished.step * finished.p.batch_size / images_per_second:,.0f}"),
        ("training loss", f"{last['training_loss']:.3f}"),
        ("validation loss (infonce)", f"{last['validation_loss']:.3f}"),
        *accuracies,
        ("validation median error, km", f"{last['median_error_km']:,.0f}"),
        ("temperature, for its probabilities", f"{temperature:.2f}"),
    ]
    show_table(f"{name}, {len(finished.photos.latitude_deg):,} training photos", ("", "value"), rows)


if __name__ == "__main__":
    run(main)
