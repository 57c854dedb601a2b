"""How fast and how right the semivariogram is, against the bare matrix product, GSTools and scikit-gstat.

python -m tests.benchmarks.variogram speed|stratified|recovery|errors [sizes]; each prints one table. Features are
random where only time counts, and Gaussian fields of known semivariogram where the answer counts.

python -m tests.benchmarks.variogram photos FILE.npz FIGURE.png fits and draws the semivariogram of given photos: arrays
latitude, longitude (n,) in degrees and feature (n, d).
"""

import resource
import sys
import time
from pathlib import Path

import gstools
import numpy as np
import torch

from stages.cli import show_table
from stages.figures import picture
from stages.geo import EARTH_RADIUS_KM, coordinates, great_circle_km, unit_vectors
from stages.variogram.__main__ import show_summary
from stages.variogram.blocks import along_curve, spatial_blocks
from stages.variogram.empirical import HALF_CIRCUMFERENCE_KM, estimate, lag_edges_km
from stages.variogram.exhaustive import sum_all_pairs
from stages.variogram.fit import fit
from stages.variogram.models import MODELS
from stages.variogram.plot import variogram_figure
from tests.benchmarks.variogram_fits import ours, practical_range_km, with_gstools, with_scikit_gstat

EDGES_KM = lag_edges_km(0.1, 40)
WIDTH = 768
TILE = 2048  # of the bare product
N_GSTOOLS = 5000
FIELDS = {"exponential": [(0.449, 500.0)], "nested": [(0.2, 15.0), (0.249, 1500.0)]}  # partial sills, ranges in km
NUGGET, SILL = 0.151, 0.6


def seconds(work) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def places(n: int, seed: int, n_towns: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Photos in towns of unequal size in a dozen countries, with lags of every size."""
    rng = np.random.default_rng(seed)
    towns = rng.normal(size=(12, 3))[rng.integers(0, 12, n_towns)] + 0.4 * rng.normal(size=(n_towns, 3))
    towns /= np.linalg.norm(towns, axis=1, keepdims=True)
    size = rng.pareto(1.2, n_towns) + 0.1
    spread = 10 ** rng.uniform(-5, -2, (n, 1))
    return coordinates(towns[rng.choice(n_towns, n, p=size / size.sum())] + spread * rng.normal(size=(n, 3)))


def field(latitude: np.ndarray, longitude: np.ndarray, structures: list, seed: int, width: int = 256) -> np.ndarray:
    """Unit features (n, width) with the semivariogram NUGGET + sum of exponentials of the structures."""
    lag_km = great_circle_km(latitude[:, None], longitude[:, None], latitude, longitude)
    covariance = NUGGET * np.eye(len(latitude))
    for partial_sill, range_km in structures:
        covariance += partial_sill * np.exp(-np.log(20) * lag_km / range_km)
    noise = np.random.default_rng(seed).normal(size=(len(latitude), width))
    features = np.linalg.cholesky(covariance) @ noise / width**0.5
    features[:, 0] += (1 - SILL) ** 0.5
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def unit_noise(n: int, width: int) -> np.ndarray:
    """Random unit features (n, width), float32."""
    features = np.random.default_rng(0).standard_normal((n, width), np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def bare_product(features: torch.Tensor) -> None:
    """The inner products of all pairs, a tile at a time into one buffer, and nothing else."""
    buffer = torch.empty(TILE, TILE)
    for row in range(0, len(features), TILE):
        for col in range(row, len(features), TILE):
            a, b = features[row : row + TILE], features[col : col + TILE]
            torch.mm(a, b.T, out=buffer.ravel()[: len(a) * len(b)].view(len(a), len(b)))


def speed(sizes: list[int]) -> None:
    """All pairs against the bare product (best of three in turn), and against GSTools."""
    rows = []
    for n in sizes or [20_000, 50_000]:
        latitude, longitude = places(n, 0)
        vectors, features = unit_vectors(latitude, longitude), unit_noise(n, WIDTH)
        blocks = spatial_blocks(vectors)
        order = np.lexsort((along_curve(vectors), blocks))
        vectors, blocks, tensor = vectors[order], blocks[order], torch.from_numpy(features)
        sum_all_pairs(vectors[:100], features[:100], np.arange(100), blocks[:100], EDGES_KM)  # compile
        best = np.full(2, np.inf)
        for _ in range(3):
            ours = seconds(lambda: sum_all_pairs(vectors, features, np.arange(n), blocks, EDGES_KM))  # noqa: B023
            best = np.minimum(best, (ours, seconds(lambda: bare_product(tensor))))  # noqa: B023
        rows.append((f"{n:,} photos against the bare product", *(f"{s:.2f}" for s in best), f"{best[0] / best[1]:.2f}"))
    n = N_GSTOOLS
    latitude, longitude = places(n, 0)
    features, where = unit_noise(n, WIDTH), {"latlon": True, "geo_scale": EARTH_RADIUS_KM}
    ours = min(seconds(lambda: estimate(latitude, longitude, features, edges_km=EDGES_KM)) for _ in range(3))
    theirs = seconds(  # once: it takes a minute
        lambda: gstools.vario_estimate((latitude, longitude), list(features.T.astype(float)), EDGES_KM.copy(), **where)
    )
    rows.append((f"{n:,} photos against GSTools", f"{ours:.2f}", f"{theirs:.2f}", f"{ours / theirs:.4f}"))
    show_table(f"All pairs, width {WIDTH}, {len(EDGES_KM) - 1} lags", ("", "ours s", "other s", "ratio"), rows)


class RepeatedFeatures:
    """n features of which only a few are stored: time and memory without a file of many GB."""

    def __init__(self, stored: np.ndarray):
        self.stored = stored.astype(np.float16)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Features of rows."""
        return self.stored[rows % len(self.stored)]


def stratified(sizes: list[int]) -> None:
    """20,000 pairs per lag from millions of photos: time, and the whole process's peak memory but for the features."""
    features, rows = RepeatedFeatures(unit_noise(20_000, WIDTH)), []
    for n in sizes or [1_000_000, 5_000_000]:
        latitude, longitude = places(n, 0, n_towns=20_000)
        found = []
        took = seconds(lambda: found.append(estimate(latitude, longitude, features, edges_km=EDGES_KM)))  # noqa: B023
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # in KiB on Linux
        full = (found[0].n_pairs >= 0.99 * 20_000).sum()
        rows.append((f"{n:,}", f"{took:.1f}", f"{peak_gb:.2f}", f"{full} of {len(EDGES_KM) - 1}"))
    show_table("Stratified pairs", ("photos", "seconds", "peak GB", "full lags"), rows)


def recovery(sizes: list[int]) -> None:
    """Medians over simulated worlds of nugget, sill, practical range and the ranges of its parts."""
    n, n_worlds = sizes or (1500, 12)
    linear_km = np.linspace(0, HALF_CIRCUMFERENCE_KM, 41)
    fits = {
        "ours": (ours, EDGES_KM),
        "GSTools, log bins": (with_gstools, EDGES_KM),
        "GSTools, linear bins": (with_gstools, linear_km),
        "scikit-gstat, log bins": (with_scikit_gstat, EDGES_KM),
    }
    rows = []
    for truth, structures in FIELDS.items():
        true_km = practical_range_km(*zip(*structures, strict=True))
        parts = " and ".join(f"{km:.0f}" for _, km in structures)
        rows.append((f"{truth}: truth", f"{NUGGET:.3f}", f"{SILL:.3f}", f"{true_km:.0f}", "", parts, ""))
        worlds = [(*places(n, seed), seed) for seed in range(n_worlds)]
        worlds = [(lat, lon, field(lat, lon, structures, seed + 1000, width=64)) for lat, lon, seed in worlds]
        for name, (fit_world, edges_km) in fits.items():
            found = [fit_world(*world, len(structures), edges_km) for world in worlds]
            nugget, sill, range_km = np.nanmedian([(f.nugget, f.sill, f.range_km) for f in found], axis=0)
            low, high = np.nanpercentile([f.range_km for f in found], (25, 75))
            right = [f.parts_km for f in found if f.parts_km]
            parts = " and ".join(f"{km:.1f}" for km in np.median(right, axis=0))
            numbers = f"{nugget:.3f}", f"{sill:.3f}", f"{range_km:.0f}", f"{high - low:.0f}", parts
            chosen = f"{len(right)} of {n_worlds}" if fit_world is ours else "told"
            rows.append((f"{truth}: {name}", *numbers, chosen))
    columns = ("", "nugget", "sill", "range km", "IQR", "parts' ranges km", "right model")
    show_table(f"{n_worlds} worlds of {n} photos", columns, rows)


def errors(sizes: list[int]) -> None:
    """Share of the truth within two block errors; bias of stratified pairs against all pairs."""
    n, n_worlds = sizes or (1500, 20)
    within: dict[str, list] = {}
    z = []
    for truth, structures in FIELDS.items():
        true = {"nugget": NUGGET, "partial_sill": SILL - NUGGET}
        true["range_km"] = practical_range_km(*zip(*structures, strict=True))
        for seed in range(n_worlds):
            latitude, longitude = places(n, seed)
            features = field(latitude, longitude, structures, seed + 1000)
            photos = {"edges_km": EDGES_KM, "seed": seed}
            whole = estimate(latitude, longitude, features, **photos)
            drawn = estimate(latitude, longitude, features, pairs="stratified", n_pairs_per_lag=300, **photos)
            sampled = whole.n_pairs > 20 * drawn.n_pairs
            z.extend(((drawn.semivariance - whole.semivariance) / drawn.se_sampling)[sampled])
            expected = NUGGET + sum(s * -np.expm1(-np.log(20) * whole.lag_km / km) for s, km in structures)
            is_in = np.abs(whole.semivariance - expected) <= 2 * whole.se_block
            known = (whole.n_pairs >= 30) & np.isfinite(whole.se_block)
            for name, side in (("below", whole.lag_km < 600), ("above", whole.lag_km >= 600)):
                within.setdefault(f"{truth}: lags {name} 600 km", []).extend(is_in[known & side])
            model = fit(whole, [truth])
            for name, value in true.items():
                is_in = abs(getattr(model, name) - value) <= 2 * model.standard_errors[name]
                within.setdefault(f"{truth}: {name}", []).append(is_in)
    rows = [(f"truth within two block errors, {name}", f"{np.mean(v):.2f}") for name, v in within.items()]
    rows.append((f"stratified against all pairs, in sampling errors: mean of {len(z):,}", f"{np.mean(z):.3f}"))
    rows.append(("and standard deviation", f"{np.std(z):.3f}"))
    show_table(f"{n_worlds} worlds of {n} photos of each kind", ("", "value"), rows)


def photos(paths: list[str]) -> None:
    """Fit and draw the semivariogram of the photos in a file; their mean feature is taken off before."""
    source, figure = paths
    stored = np.load(source)
    features = stored["feature"].astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    empirical = estimate(stored["latitude"], stored["longitude"], features - features.mean(axis=0), edges_km=EDGES_KM)
    model = fit(empirical, list(MODELS))
    show_summary(model, empirical, len(features))
    Path(figure).write_bytes(picture(variogram_figure(empirical, model)))


if __name__ == "__main__":
    tables = {"speed": speed, "stratified": stratified, "recovery": recovery, "errors": errors}
    name, *rest = sys.argv[1:] or [""]
    if name == "photos":
        photos(rest)
    elif name in tables:
        tables[name]([int(size) for size in rest])
    else:
        sys.exit(f"'{name}' is not known; choose one of: {', '.join(tables)}, photos")
