"""Which photos make a step: batches shuffled by seed, and the queue of photos that came just before.

Every draw depends on (seed, step) alone, so that a run can go on from any step without a generator's state.
"""

from functools import lru_cache

import numpy as np

from stages.cli import InputError
from stages.geo import displace

_SHUFFLE, _NOISE = 0, 1  # streams of random numbers


class Batches:
    """Rows of the training photos, step by step; an epoch leaves out the last n % batch_size of its shuffled rows."""

    def __init__(self, n: int, batch_size: int, queue_size: int, seed: int):
        if batch_size > n:
            raise InputError(f"a batch of {batch_size} is more than the {n} training photos; lower train.batch_size")
        self.batch_size, self.queue_size = batch_size, queue_size
        self.steps_per_epoch = n // batch_size
        self._permutation = lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, _SHUFFLE, epoch]).permutation(n)
        )

    def batch(self, step: int) -> np.ndarray:
        """Rows (b,) of a step."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._permutation(epoch)[index * self.batch_size : (index + 1) * self.batch_size]

    def queue(self, step: int) -> np.ndarray:
        """Rows (q,) of the photos in the steps before, at most queue_size and none at the first step, each once.

        A photo of the step's own batch is left out: it would be a negative of itself.
        """
        n_steps = min(step, -(-self.queue_size // self.batch_size))
        if n_steps == 0:
            return np.empty(0, np.int64)
        recent = np.concatenate([self.batch(earlier) for earlier in range(step - n_steps, step)])
        return np.setdiff1d(recent[-self.queue_size :], self.batch(step))


def displaced(
    latitude_deg: np.ndarray, longitude_deg: np.ndarray, noise_m: np.ndarray, seed: int, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Places with Gaussian noise of standard deviation noise_m east and north, drawn for a step. All (c,)."""
    east_km, north_km = np.random.default_rng([seed, _NOISE, step]).normal(size=(2, len(noise_m))) * noise_m / 1000
    return displace(latitude_deg, longitude_deg, east_km, north_km)
