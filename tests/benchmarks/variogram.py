"""How fast and how right the semivariogram is, against the bare matrix product, GSTools and scikit-gstat.

python -m tests.benchmarks.variogram speed|stratified|recovery|errors [sizes]; each prints one table. Features are
random where only time counts, and Gaussian fields of known semivariogram where the answer counts.

python -m tests.benchmarks.variogram photos FILE.npz FIGURE.png fits and draws the semivariogram of given photos: arrays
latitude, longitude (n,) in degrees and feature (n, d).
"""

import resource
import sys
import time

import gstools
import numpy as np
import skgstat
import torch
from scipy.spatial.distance import pdist

from stages.cli import show_table
from stages.geo import EARTH_RADIUS_KM, coordinates, great_circle_km, unit_vectors
from stages.variogram.__main__ import show_summary
from stages.variogram.blocks import along_curve, spatial_blocks
from stages.variogram.empirical import HALF_CIRCUMFERENCE_KM, estimate, lag_edges_km
from stages.variogram.exhaustive import sum_all_pairs
from stages.variogram.fit import fit
from stages.variogram.models import MODELS
from stages.variogram.plot import FIGURE_DPI, variogram_figure

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


def gstools_range_km(latitude, longitude, features, edges_km) -> tuple[float, float, float]:
    """Nugget, sill and practical range of GSTools' own estimate and exponential fit."""
    centre, gamma = gstools.vario_estimate(
        (latitude, longitude), list(features.T), edges_km.copy(), latlon=True, geo_scale=EARTH_RADIUS_KM
    )
    model = gstools.Exponential(latlon=True, geo_scale=EARTH_RADIUS_KM)
    model.fit_variogram(centre, gamma * features.shape[1])
    return model.nugget, model.nugget + model.var, model.len_scale * np.log(20)


def scikit_gstat_fit(latitude, longitude, features) -> tuple[float, float, float]:
    """Nugget, sill and practical range of scikit-gstat's own exponential fit to its own bins.

    It has no great-circle distance and one variable: it gets chords in km, which are as good up to the range, and the
    distances of the features in place of the variable's differences.
    """
    chord_edges_km = 2 * EARTH_RADIUS_KM * np.sin(EDGES_KM[1:] / 2 / EARTH_RADIUS_KM)
    variogram = skgstat.Variogram(
        EARTH_RADIUS_KM * unit_vectors(latitude, longitude),
        features[:, 0],
        bin_func=chord_edges_km,
        model="exponential",
        use_nugget=True,
    )
    variogram._diff = pdist(features)  # |f_i - f_j|, whose halved mean square is the semivariance of all variables
    variogram.fit()
    range_km, partial_sill, nugget = variogram.parameters
    return nugget, nugget + partial_sill, range_km


def recovery(sizes: list[int]) -> None:
    """Medians over simulated worlds of nugget, sill and range, ours beside the others' single exponential."""
    n, n_worlds = sizes or (1500, 12)
    rows, linear_km = [], np.linspace(0, HALF_CIRCUMFERENCE_KM, 41)
    for truth, structures in FIELDS.items():
        found: dict[str, list] = {"ours": [], "GSTools, log bins": [], "GSTools, linear bins": []}
        found["scikit-gstat, log bins"] = []
        names, ranges = [], []
        for seed in range(n_worlds):
            latitude, longitude = places(n, seed)
            features = field(latitude, longitude, structures, seed + 1000, width=64)
            model = fit(estimate(latitude, longitude, features, edges_km=EDGES_KM), list(MODELS))
            names.append(model.name)
            ranges.append([part["range_km"] for part in model.structures()])
            found["ours"].append((model.nugget, model.sill, model.range_km or np.nan))
            found["GSTools, log bins"].append(gstools_range_km(latitude, longitude, features, EDGES_KM))
            found["GSTools, linear bins"].append(gstools_range_km(latitude, longitude, features, linear_km))
            found["scikit-gstat, log bins"].append(scikit_gstat_fit(latitude, longitude, features))
        for name, values in found.items():
            nugget, sill, range_km = np.nanmedian(values, axis=0)
            low, high = np.nanpercentile(np.array(values)[:, 2], (25, 75))
            rows.append((f"{truth}: {name}", f"{nugget:.3f}", f"{sill:.3f}", f"{range_km:.0f}", f"{high - low:.0f}"))
        right = [r for name, r in zip(names, ranges, strict=True) if name == truth]
        parts = " and ".join(f"{km:.3g}" for km in np.median(right, axis=0)) if right else "-"
        rows.append((f"{truth}: ours, chosen in {len(right)} of {n_worlds}; its ranges {parts} km", "", "", "", ""))
    title = f"True nugget {NUGGET}, sill {SILL}; exponential 500 km, nested 15 and 1500 km; {n} photos"
    show_table(title, ("", "nugget", "sill", "range km", "IQR"), rows)


def errors(sizes: list[int]) -> None:
    """Coverage of two block errors against the true semivariogram; bias of stratified pairs against all pairs."""
    n, n_worlds = sizes or (1500, 20)
    within: dict[str, list] = {"below 600 km": [], "above 600 km": []}
    z, structures = [], FIELDS["exponential"]
    ((partial_sill, range_km),) = structures
    for seed in range(n_worlds):
        latitude, longitude = places(n, seed)
        features = field(latitude, longitude, structures, seed + 1000)
        whole = estimate(latitude, longitude, features, edges_km=EDGES_KM)
        drawn = estimate(
            latitude, longitude, features, edges_km=EDGES_KM, pairs="stratified", n_pairs_per_lag=300, seed=seed
        )
        expected = NUGGET + partial_sill * -np.expm1(-np.log(20) * whole.lag_km / range_km)
        is_in = np.abs(whole.semivariance - expected) <= 2 * whole.se_block
        known = (whole.n_pairs >= 30) & np.isfinite(whole.se_block)
        for name, side in zip(within, (whole.lag_km < 600, whole.lag_km >= 600), strict=True):
            within[name].extend(is_in[known & side])
        sampled = whole.n_pairs > 20 * drawn.n_pairs
        z.extend(((drawn.semivariance - whole.semivariance) / drawn.se_sampling)[sampled])
    rows = [(f"within two block errors of the truth, lags {name}", f"{np.mean(v):.2f}") for name, v in within.items()]
    rows.append(("stratified against all pairs, in sampling errors: mean", f"{np.mean(z):.3f}"))
    rows.append(("and standard deviation", f"{np.std(z):.3f}"))
    show_table(f"{n_worlds} worlds of {n} photos", ("", "value"), rows)


def photos(paths: list[str]) -> None:
    """Fit and draw the semivariogram of the photos in a file; their mean feature is taken off before."""
    source, figure = paths
    stored = np.load(source)
    features = stored["feature"].astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    empirical = estimate(stored["latitude"], stored["longitude"], features - features.mean(axis=0), edges_km=EDGES_KM)
    model = fit(empirical, list(MODELS))
    show_summary(model, empirical, len(features))
    variogram_figure(empirical, model).savefig(figure, dpi=FIGURE_DPI)


if __name__ == "__main__":
    tables = {"speed": speed, "stratified": stratified, "recovery": recovery, "errors": errors}
    name, *rest = sys.argv[1:] or [""]
    if name == "photos":
        photos(rest)
    elif name in tables:
        tables[name]([int(size) for size in rest])
    else:
        sys.exit(f"'{name}' is not known; choose one of: {', '.join(tables)}, photos")
