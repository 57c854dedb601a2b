"""Steps per second of each loss, against infonce and against the location encoder's products alone.

`python -m tests.benchmarks.train` takes about a minute; random photos, GeoCLIP's sizes and those of params.yaml.
"""

import time

import numpy as np
import torch

from stages.cli import show_table
from stages.params import load_params
from stages.train.loop import Photos, Run
from stages.train.losses import LOSSES
from stages.train.model import seeded_model
from stages.train.pairs import tabulate

N_PHOTOS, N_ROUNDS = 12_000, 7
GEOCLIP = {"embedding_width": 512, "hidden_width": 1024, "fourier_width": 256, "batch_size": 512, "queue_size": 4096}


class Exponential:
    """A semivariogram; its numbers do not change the time."""

    name, range_km = "exponential", 500.0

    def correlation_at(self, lag_km):
        return np.exp(-3 * lag_km / self.range_km)

    def semivariance_at(self, lag_km):
        return 0.6 - 0.45 * self.correlation_at(lag_km)

    def std_at(self, lag_km):
        return np.full_like(lag_km, 0.2)


def least_ms(functions):
    """Least time of each function in ms, called in turns: what else runs on the machine then slows all of them."""
    times = {name: [] for name in functions}
    for _ in range(N_ROUNDS):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: min(values) for name, values in times.items()}


def new_run(name, p, feature_width):
    rng = np.random.default_rng(1)
    feature = torch.nn.functional.normalize(torch.randn(N_PHOTOS, feature_width), dim=1)
    latitude_deg, longitude_deg = rng.uniform(-60, 60, N_PHOTOS), rng.uniform(-180, 180, N_PHOTOS)
    photos = Photos(latitude_deg, longitude_deg, lambda rows: feature[torch.from_numpy(rows)])
    widths = {key: getattr(p, key) for key in ("embedding_width", "hidden_width", "fourier_width", "sigmas")}
    model = seeded_model(1, feature_width=feature_width, **widths)
    run = Run(model, LOSSES[name], getattr(p, name).model_dump(), p, photos, tabulate(Exponential()))
    run.step = p.queue_size // p.batch_size + 1  # a full queue
    return run


def encode_places(run):
    """Forward and backward of the location encoder over a step's places: the floor of any step."""
    n = run.p.batch_size + run.p.queue_size
    place = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    run.model.location_encoder(*place).sum().backward()


def measure(title, p, feature_width):
    runs = {name: new_run(name, p, feature_width) for name in LOSSES}
    steps = {name: run.advance for name, run in runs.items()}
    times_ms = least_ms({"location encoder alone": lambda: encode_places(runs["infonce"]), **steps})
    rows = [
        (name, f"{ms:.1f}", f"{p.batch_size / ms * 1000:,.0f}", f"{ms / times_ms['infonce'] - 1:+.1%}")
        for name, ms in times_ms.items()
    ]
    show_table(title, ("", "ms a step", "photos a second", "against infonce"), rows)


if __name__ == "__main__":
    p = load_params().train
    measure("params.yaml, features of width 256", p, 256)
    measure("GeoCLIP's sizes, features of width 768", p.model_copy(update=GEOCLIP), 768)
