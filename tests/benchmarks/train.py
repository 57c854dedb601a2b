"""How fast training is, against its floor and against geoclip's own loop.

python -m tests.benchmarks.train speed|recipe, each about ten minutes on two cores and one table. geoclip trains on the
same features with its CLIP replaced by the identity, if it is installed (pip install -e '.[peers]').

speed   random photos; a step of each loss against infonce and against the location encoder's products alone
recipe  the features of data/<source>/features; time to the validation accuracy that geoclip's recipe ends with
"""

import contextlib
import importlib
import io
import sys
import time
from pathlib import Path

import numpy as np
import torch

from stages.cli import show_table
from stages.params import Train, load_params
from stages.train.loop import N_VALIDATIONS, Photos, Run
from stages.train.losses import LOSSES
from stages.train.model import ImageEncoder, seeded_model
from stages.train.pairs import tabulate
from stages.train.setup import Split, prepare, read_split, validation_of
from stages.variogram.models import read_model

N_PHOTOS, N_ROUNDS = 12_000, 7
WIDTHS = {"embedding_width": 512, "hidden_width": 1024, "fourier_width": 256}  # GeoCLIP's
RECIPE = {"batch_size": 512, "queue_size": 4096}
PEER_EPOCHS = 20


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


def random_photos(feature_width):
    rng = np.random.default_rng(1)
    feature = torch.nn.functional.normalize(torch.randn(N_PHOTOS, feature_width), dim=1)
    latitude_deg, longitude_deg = rng.uniform(-60, 60, N_PHOTOS), rng.uniform(-180, 180, N_PHOTOS)
    return Photos(latitude_deg, longitude_deg, lambda rows: feature[torch.from_numpy(rows)])


def new_run(name, p, photos):
    widths = {key: getattr(p, key) for key in ("embedding_width", "hidden_width", "fourier_width", "sigmas")}
    model = seeded_model(1, feature_width=photos.feature(np.arange(1)).shape[1], **widths)
    run = Run(model, LOSSES[name], getattr(p, name).model_dump(), p, photos, tabulate(Exponential()))
    run.step = p.queue_size // p.batch_size + 1  # a full queue
    return run


def encode_places(run):
    """Forward and backward of the location encoder over a step's places: the floor of any step."""
    n = run.p.batch_size + run.p.queue_size
    place = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    run.model.location_encoder(*place).sum().backward()


class Peer:
    """geoclip's model, its training loop and the settings of its users, on features; CLIP is the identity."""

    def __init__(self, photos, n_photos):
        import stages.features.encoder  # noqa: F401, PLC0415  makes torchvision importable beside a CPU torch

        module = importlib.import_module("geoclip.model.GeoCLIP")  # the package has a class of that name
        self.train = importlib.import_module("geoclip.train").train
        feature = photos.feature(np.arange(n_photos))
        module.ImageEncoder = lambda **_: ImageEncoder(feature.shape[1], WIDTHS["embedding_width"])
        torch.manual_seed(1)
        self.model = module.GeoCLIP(from_pretrained=False, queue_size=RECIPE["queue_size"])
        place = torch.from_numpy(np.column_stack([photos.latitude_deg, photos.longitude_deg])[:n_photos]).float()
        self.batches = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(feature, place), RECIPE["batch_size"], shuffle=True, drop_last=True
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=3e-5, weight_decay=1e-6)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=1, gamma=0.87)

    def epoch(self, number=0):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.train(self.batches, self.model, self.optimizer, number, 512, "cpu", scheduler=self.scheduler)


def speed():
    p = load_params().train
    measure("params.yaml, features of width 256", p, 256)
    measure("GeoCLIP's sizes, features of width 768", p.model_copy(update=WIDTHS | RECIPE), 768)


def measure(title, p, feature_width):
    photos = random_photos(feature_width)
    runs = {name: new_run(name, p, photos) for name in LOSSES}
    functions = {"location encoder alone": lambda: encode_places(runs["infonce"])}
    if p.queue_size and importlib.util.find_spec("geoclip"):
        functions["geoclip's train"] = Peer(photos, p.batch_size).epoch  # of one batch
    times_ms = least_ms(functions | {name: run.advance for name, run in runs.items()})
    rows = [
        (name, f"{ms:.1f}", f"{p.batch_size / ms * 1000:,.0f}", f"{ms / times_ms['infonce'] - 1:+.1%}")
        for name, ms in times_ms.items()
    ]
    show_table(title, ("", "ms a step", "photos a second", "against infonce"), rows)


def learning_curve(train_some, model_of, validation, n_rows):
    """Seconds of training and validation accuracy within 25 and 200 km after each of n_rows parts of it."""
    seconds, rows = 0.0, []
    for part in range(n_rows):
        started = time.perf_counter()
        train_some(part)
        seconds += time.perf_counter() - started
        measured = validation.measure(model_of())
        rows.append((seconds, measured["accuracy_25km"], measured["accuracy_200km"]))
    return np.array(rows)


def ours(name: str, p: Train, training: Split, validation) -> np.ndarray:
    semivariogram = read_model(Path("data/variogram/model.json"))
    run = prepare(name, p, training, semivariogram, device=torch.device("cpu"))
    ends = np.linspace(0, run.n_steps, N_VALIDATIONS + 1).round()

    def train_some(part):
        while run.step < ends[part + 1]:
            run.advance()

    return learning_curve(train_some, lambda: run.model, validation, N_VALIDATIONS)


def recipe():
    """Time to the accuracy within 25 km that geoclip's recipe ends with, for ours at its sizes and at ours."""
    params = load_params()
    folder, p = Path("data") / params.data.source / "features", params.train
    training, held_out = read_split(folder / "train"), read_split(folder / "val")
    validation = validation_of(training, held_out, torch.device("cpu"))
    feature = torch.from_numpy(training.features[:].astype(np.float32))
    peer = Peer(Photos(*training.angles(), lambda rows: feature[torch.from_numpy(rows)]), len(feature))
    probe = seeded_model(1, feature_width=feature.shape[1], sigmas=[1, 16, 256], **WIDTHS)

    def peers_weights():
        """Their weights in our model: the names are the same."""
        weights = peer.model.state_dict()
        probe.load_state_dict({name: weights[name] for name in probe.state_dict()})
        return probe

    curves = {"geoclip's train, 20 epochs": learning_curve(peer.epoch, peers_weights, validation, PEER_EPOCHS)}
    wide = p.model_copy(update=WIDTHS)
    curves["infonce, params.yaml, GeoCLIP's sizes"] = ours("infonce", wide, training, validation)
    curves["infonce, params.yaml"] = ours("infonce", p, training, validation)
    curves["semivariogram, params.yaml"] = ours("semivariogram", p, training, validation)
    peers_seconds, target = curves["geoclip's train, 20 epochs"][-1, :2]
    rows = []
    for name, curve in curves.items():
        there = curve[:, 1] >= target
        seconds = curve[there.argmax(), 0] if there.any() else np.inf
        rows.append(
            (name, f"{seconds:.1f}", f"{peers_seconds / seconds:.1f}", *(f"{100 * x:.1f}" for x in curve[-1, 1:]))
        )
    columns = ("", f"s to {target:.1%} within 25 km", "times faster", "25 km at the end, %", "200 km, %")
    show_table(f"{len(feature):,} training photos of the source {params.data.source}", columns, rows)


if __name__ == "__main__":
    {"speed": speed, "recipe": recipe}[sys.argv[1]]()
