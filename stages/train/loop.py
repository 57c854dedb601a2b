"""The training loop: a step depends on the weights, the seed and its number alone, so a killed run can go on."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from stages.cli import InputError
from stages.geo import unit_vectors
from stages.params import Train
from stages.shards import FeatureRows, written_whole
from stages.train.batches import Batches, displaced
from stages.train.losses import Loss
from stages.train.model import GeoCLIP
from stages.train.pairs import Curves, cosine_distance, pair_lag_km
from stages.train.ranks import Ranks
from stages.train.validation import Validation

WARM_UP = 0.05  # share of the steps over which the learning rate rises
MAX_GRADIENT_NORM = 1.0
MAX_LOGIT_SCALE = math.log(100)  # CLIP's: beyond it one pair decides a step
N_VALIDATIONS = 20  # rows of the learning curve
STOP_BY = "accuracy_25km"  # of the validation photos; their loss rises again long before their accuracy falls
CHECKPOINT_SECONDS = 10.0
_PROGRESS = ("step", "curve", "best_row", "best_weights", "loss_sum", "n_summed")  # a checkpoint's, with its weights


@dataclass(frozen=True)
class Photos:
    """Training photos: their places (n,) float64 in degrees, and a function from rows to features (c, d) float32."""

    latitude_deg: np.ndarray
    longitude_deg: np.ndarray
    feature: Callable[[np.ndarray], Tensor]


def feature_reader(features: FeatureRows, device: torch.device) -> Callable[[np.ndarray], Tensor]:
    """Rows to features (c, d) float32 on the device, from its own memory where they fit, else from disk."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if 2 * features.shape[0] * features.shape[1] < free / 2:
            table = torch.cat([torch.from_numpy(np.array(chunk)).to(device) for chunk in features.chunks])
            return lambda rows: table[torch.from_numpy(rows).to(device)].float()
    return lambda rows: torch.from_numpy(features[rows]).to(device).float()


def learning_rate_at(step: int, n_steps: int, peak: float) -> float:
    """A linear rise to the peak over WARM_UP of the steps, then half a cosine down to 0 after the last."""
    n_rising = max(1, round(WARM_UP * n_steps))
    if step < n_rising:
        return peak * (step + 1) / n_rising
    return peak * (1 + math.cos(math.pi * (step - n_rising) / max(1, n_steps - n_rising))) / 2


def decay_groups(model: GeoCLIP, weight_decay: float) -> list[dict]:
    """Optimiser groups of the trained weights: matrices decay, biases and the logit scale do not."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in trained if weight.ndim >= 2], "weight_decay": weight_decay},
        {"params": [weight for weight in trained if weight.ndim < 2], "weight_decay": 0.0},
    ]


class Run:
    """One training run: model, optimiser, step and learning curve, which together are its checkpoint."""

    def __init__(
        self,
        model: GeoCLIP,
        loss: Loss,
        loss_params: dict,
        p: Train,
        photos: Photos,
        curves: Curves | None,
        ranks: Ranks = Ranks(),  # noqa: B008  frozen
    ):
        self.model, self.loss, self.loss_params = model, loss, loss_params
        self.p, self.photos, self.curves, self.ranks = p, photos, curves, ranks
        self.batches = Batches(len(photos.latitude_deg), p.batch_size, p.queue_size, p.seed)
        self.n_steps = p.epochs * self.batches.steps_per_epoch
        self.optimizer = torch.optim.AdamW(decay_groups(model, p.weight_decay))
        self.step, self.curve = 0, []
        self.best_row, self.best_weights = -1, None  # of the curve; the last one unless the run may stop early
        self.loss_sum = torch.zeros((), device=model.device)  # since the last row of the curve
        self.n_summed = 0

    def advance(self) -> None:
        """Train one step."""
        loss = self._loss()
        self.optimizer.zero_grad()
        loss.backward()
        loss = loss.detach()
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        self.ranks.average([loss, *gradients])
        clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, self.n_steps, self.p.learning_rate)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        self.loss_sum += loss
        self.n_summed += 1
        self.step += 1

    def _loss(self) -> Tensor:
        """Mean loss of this process's share of the batch against all its places and the queue's."""
        batch, queue = self.batches.batch(self.step), self.batches.queue(self.step)
        rows, sizes = np.concatenate([batch, queue]), (len(batch), len(queue))
        place = np.stack([self.photos.latitude_deg[rows], self.photos.longitude_deg[rows]])
        noise_m = np.repeat([self.p.noise_m, self.p.queue_noise_m], sizes)
        noisy = np.stack(displaced(*place, noise_m, self.p.seed, self.step))

        device, n_anchors = self.model.device, len(batch) // self.ranks.size
        share, candidates = self.ranks.share(*sizes), self.ranks.own_first(*sizes)
        feature = self.photos.feature(rows[candidates if self.loss.uses_semivariogram else share[:n_anchors]])
        # Only the wide products in bfloat16; embeddings and logits are float32.
        with torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext():
            image = self.model.image_embedding(feature[:n_anchors])
            embedded = self.model.place_embedding(*torch.from_numpy(noisy[:, share]).to(device))
        logits = self.model.logit_scale.exp() * image @ self.ranks.gather(embedded, *sizes).T

        lag_km = image_distance = None
        if self.loss.uses_lag:
            # The lags of the true places: the noise is there for the location encoder alone.
            vectors = torch.from_numpy(unit_vectors(*place[:, candidates])).to(device)
            lag_km = pair_lag_km(vectors[:n_anchors], vectors)
        if self.loss.uses_semivariogram:
            image_distance = cosine_distance(feature[:n_anchors], feature)
        return self.loss.function(logits, lag_km, image_distance, self.curves, **self.loss_params).mean()

    def recent_loss(self) -> float:
        """Mean training loss since the last row of the curve; right after one, that row's."""
        return float(self.loss_sum) / self.n_summed if self.n_summed else self.curve[-1]["training_loss"]

    def add_to_curve(self, validation: Validation) -> None:
        """Measure the model and add a row to the learning curve; raises InputError if the training diverged."""
        training_loss = self.recent_loss()
        if not math.isfinite(training_loss):
            raise InputError(
                f"the loss is {training_loss} at step {self.step}, the training diverged; lower train.learning_rate "
                f"({self.p.learning_rate}) or the loss's strength"
            )
        epoch = self.step / self.batches.steps_per_epoch
        row = {"step": self.step, "epoch": round(epoch, 3), "training_loss": training_loss}
        # The others may round differently on other machines, and all must stop at the same row.
        self.curve.append(row | self.ranks.answer_of_first(lambda: validation.measure(self.model)))
        if self.p.patience and self.curve[-1][STOP_BY] > max((row[STOP_BY] for row in self.curve[:-1]), default=-1):
            self.best_row = len(self.curve) - 1
            self.best_weights = {name: weight.clone() for name, weight in self.model.state_dict().items()}
        self.loss_sum.zero_()
        self.n_summed = 0

    def has_stalled(self) -> bool:
        """Whether the last train.patience rows of the curve are no better than the best before them."""
        return 0 < self.p.patience <= len(self.curve) - 1 - self.best_row

    def save(self, path: Path, made_from: str) -> None:
        """Write a checkpoint; made_from names everything that determines the run."""
        state = {
            "made_from": made_from,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{key: getattr(self, key) for key in _PROGRESS},
        }
        with written_whole(path) as temporary:
            torch.save(state, temporary)

    def go_on_from(self, path: Path, made_from: str) -> None:
        """Take up a checkpoint, if there is one and it was made from the same."""
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.model.device, weights_only=True)
        if state["made_from"] != made_from:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for key in _PROGRESS:
            setattr(self, key, state[key])


def train(run: Run, validation: Validation, checkpoint: Path, made_from: str) -> float:
    """Train a run to its end, from its checkpoint if there is one; it may stop early. Returns images per second.

    Killed at any step and called again, it ends with the weights of a run that was never killed (on a CPU, exactly).
    """
    run.go_on_from(checkpoint, made_from)
    if not run.ranks.agree_on((made_from, run.step)):
        raise InputError(
            f"the training processes see other data, params or checkpoints ({checkpoint.resolve()} is at step "
            f"{run.step} here); let all machines share this folder"
        )
    first_step, started = run.step, time.monotonic()
    rows_at = {round(run.n_steps * row / N_VALIDATIONS) for row in range(1, N_VALIDATIONS + 1)} - {0}
    last_shown = last_saved = time.monotonic()
    is_first = run.ranks.rank == 0  # the others have the same weights; it alone measures, shows and saves
    n_images, n_done = run.n_steps * run.p.batch_size, run.step * run.p.batch_size
    with tqdm(total=n_images, initial=n_done, unit=" images", mininterval=1, disable=not is_first) as bar:
        while run.step < run.n_steps:
            run.advance()
            if run.step in rows_at:
                run.add_to_curve(validation)
                if run.has_stalled():
                    break
            now = time.monotonic()
            if now - last_shown > 1:  # and not every step: reading the loss waits for the GPU
                bar.set_postfix(loss=f"{run.recent_loss():.3f}", refresh=False)
                last_shown = now
            if is_first and now - last_saved > CHECKPOINT_SECONDS and run.step < run.n_steps:
                run.save(checkpoint, made_from)
                last_saved = now
            bar.update(run.p.batch_size)
    if run.best_weights is not None:
        run.model.load_state_dict(run.best_weights)
    return (run.step - first_step) * run.p.batch_size / (time.monotonic() - started)
