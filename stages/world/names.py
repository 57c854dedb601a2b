"""Invented names that can be spoken; the names of one country share their sounds."""

import numpy as np

ONSETS, VOWELS, ENDINGS = map(
    str.split,
    (
        "b br d dr f g gr h j k kl l m n p r s sk t tr v z th sh",
        "a e i o u ai au ei",
        "na ra la ria nia burg ton ville mar vik stad dale pur bad nov ridge sund mouth",
    ),
)
CODAS = ["", "", "", "", "n", "r", "l", "s", "m"]

# ISO 3166-1 leaves QM to QZ and XA to XZ to its users, so no real country ever has one of these.
_USER_ASSIGNED = {"Q": "MNOPQRSTUVWXYZ", "X": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
COUNTRY_CODES = [first + second for first, seconds in _USER_ASSIGNED.items() for second in seconds]


def invent_names(rng: np.random.Generator, n: int) -> list[str]:
    """Names, n different ones in one country's sounds."""
    sounds = ((ONSETS, 9), (VOWELS, 4), (CODAS, 5), (ENDINGS, 6))
    onsets, vowels, codas, endings = (rng.choice(kind, size, replace=False).tolist() for kind, size in sounds)
    names: dict[str, None] = {}  # in order of invention: a set's order changes from run to run
    while len(names) < n:
        syllables = [_one(rng, onsets) + _one(rng, vowels) + _one(rng, codas) for _ in range(rng.integers(1, 3))]
        names["".join([*syllables, _one(rng, endings)]).capitalize()] = None
    return list(names)


def _one(rng: np.random.Generator, sounds: list[str]) -> str:
    return sounds[rng.integers(len(sounds))]
