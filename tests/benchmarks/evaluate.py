"""How long evaluation takes, against the bare matrix product and geoclip: python -m tests.benchmarks.evaluate.

The model has GeoCLIP's widths and random weights; features and places are random. geoclip evaluates the same features
with its CLIP replaced by the identity, if it is installed (pip install -e '.[peers]'). All on the GPU if there is one.
"""

import contextlib
import importlib
import io
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from stages.cli import show_table
from stages.evaluate import kriging, metrics
from stages.evaluate.baselines import image_knn
from stages.evaluate.choice import Setting
from stages.evaluate.gallery import embed_photos, embed_places, locate
from stages.evaluate.refine import find_candidates, rank
from stages.evaluate.retrieval import GALLERY_CHUNK, chunked, retrieve
from stages.geo import great_circle_km
from stages.shards import FeatureRows
from stages.train.model import GeoCLIP, seeded_model
from stages.variogram.models import Semivariogram

N_GALLERY, FEATURE_WIDTH, EMBEDDING_WIDTH, TOP_K = 100_000, 768, 512, 5
N_QUERIES = (2_000, 20_000)
N_PEER = 512  # photos that geoclip is given: its largest batch, for each of which it embeds the gallery anew
N_REFINED = 512
OSV5M_QUERIES, OSV5M_GALLERY, OSV5M_CHUNKS = 210_000, 4_900_000, 3
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds(work) -> float:
    """Wall time of a call, on a GPU until it has done its work."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def least_seconds(*works) -> list[float]:
    """Least wall time of each of some calls, made three times in turn: other work on the machine hits all alike."""
    return [min(times) for times in zip(*([seconds(work) for work in works] for _ in range(3)), strict=True)]


def make_model() -> GeoCLIP:
    """GeoCLIP's widths with random weights."""
    widths = {"feature_width": FEATURE_WIDTH, "embedding_width": EMBEDDING_WIDTH}
    model = seeded_model(0, **widths, hidden_width=1024, fourier_width=256, sigmas=(1, 16, 256))
    return model.requires_grad_(False).eval().to(DEVICE)


def random_places(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Uniform places on the sphere, in degrees."""
    return np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)


def random_features(n: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors (n, 768) as the features stage leaves them, float16."""
    rows = np.empty((n, FEATURE_WIDTH), np.float16)
    for part in chunked(rows, GALLERY_CHUNK):  # so that making them takes no more memory than they do
        values = rng.standard_normal(part.shape, np.float32)
        part[:] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return rows


def product(queries: torch.Tensor, rows: torch.Tensor) -> None:
    """All similarities, in the tiles that retrieval works in, and nothing else."""
    for chunk in chunked(rows, GALLERY_CHUNK):
        for tile in chunked(queries, 1024):
            tile @ chunk.T


def evaluate(model, features, truth, gallery) -> dict:
    """All of an evaluation but the reading and writing of files."""
    top = locate(model, embed_photos(model, features), gallery, embed_places(model, *gallery), TOP_K)
    error_km = great_circle_km(*truth, top.latitude[:, 0], top.longitude[:, 0])
    return metrics.summarize(error_km, np.arange(len(error_km)), n_bootstrap=2000, seed=0)


def geoclips_evaluation(model, features, truth, gallery):
    """A function that runs geoclip's eval_images on the same weights, features and gallery; None without geoclip."""
    try:
        importlib.import_module("stages.features.encoder")  # makes torchvision importable beside a CPU torch
        from geoclip.train import eval_images
    except ImportError:
        return None

    class Head(torch.nn.Module):
        def __init__(self, **_):
            super().__init__()
            self.mlp = model.image_encoder.mlp

        def forward(self, features):
            return self.mlp(features)

    module = importlib.import_module("geoclip.model.GeoCLIP")  # the package has a class of that name
    module.ImageEncoder = Head
    peer = module.GeoCLIP(from_pretrained=False)
    peer.location_encoder.load_state_dict(model.location_encoder.state_dict())
    peer.logit_scale = model.logit_scale
    peer.gps_gallery = torch.from_numpy(np.column_stack(gallery)).float()
    batch = torch.from_numpy(features.astype(np.float32)), torch.from_numpy(np.column_stack(truth))
    return lambda: eval_images([batch], peer.to(DEVICE), device=DEVICE)


def peak_memory_gb() -> float:
    """Greatest resident memory of this process; unlike getrusage's, without that of the process that started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6


@torch.inference_mode()
def osv5m_slice() -> dict[str, float]:
    """Hours that all OSV5M test photos take on all training places, by three chunks of them, and GB of memory.

    Photos are as many as in the true case and so are the gallery's coordinates, so the memory is that of the true case.
    """
    rng, model = np.random.default_rng(1), make_model()
    features, truth, gallery = (
        random_features(OSV5M_QUERIES, rng),
        *(random_places(n, rng) for n in (OSV5M_QUERIES, OSV5M_GALLERY)),
    )
    n_places = OSV5M_CHUNKS * GALLERY_CHUNK
    queries, top = [], []
    photos_s = seconds(lambda: queries.append(embed_photos(model, features)))
    embeddings = embed_places(model, *(angle[:n_places] for angle in gallery))
    places_s = seconds(lambda: top.append(locate(model, queries[0], gallery, embeddings, TOP_K)))
    error_km = great_circle_km(*truth, top[0].latitude[:, 0], top[0].longitude[:, 0])
    drive = np.arange(OSV5M_QUERIES)  # one a photo: as many as there can be
    metrics_s = seconds(lambda: metrics.summarize(error_km, drive, n_bootstrap=2000, seed=0))
    return {
        "slice_s": photos_s + places_s + metrics_s,
        "hours": (photos_s + places_s * OSV5M_GALLERY / n_places + metrics_s) / 3600,
        "memory_gb": peak_memory_gb(),
        "gpu_memory_gb": torch.cuda.max_memory_allocated() / 1e9,  # 0 without a GPU
    }


@torch.inference_mode()
def main() -> None:
    """Time the parts of an evaluation and show them."""
    rng, model = np.random.default_rng(0), make_model()
    gallery, training = random_places(N_GALLERY, rng), random_features(N_GALLERY, rng)
    places = normalize(torch.randn(N_GALLERY, EMBEDDING_WIDTH, device=DEVICE), dim=1)
    features, truth = random_features(max(N_QUERIES), rng), random_places(max(N_QUERIES), rng)
    rows = []

    few = [angle[:N_PEER] for angle in truth]
    peer_s = None
    if peer := geoclips_evaluation(model, features[:N_PEER], few, gallery):
        with contextlib.redirect_stdout(io.StringIO()):
            peer_s = seconds(peer) / N_PEER
        name = f"{N_PEER} x {N_GALLERY:,}: geoclip's eval_images, one batch"
        rows.append((name, f"{peer_s * N_PEER:.1f} s", f"{peer_s * 1e3:.0f} ms a photo"))

    for n in N_QUERIES:
        queries = embed_photos(model, features[:n])
        bare_s, ours_s = least_seconds(
            lambda q=queries: product(q, places),
            lambda q=queries: retrieve(q, chunked(places, GALLERY_CHUNK), TOP_K, scale=14.0),
        )
        size = f"{n:,} x {N_GALLERY:,}"
        rows.append((f"{size}, width {EMBEDDING_WIDTH}: bare product", f"{bare_s:.2f} s", "1 (product)"))
        rows.append((f"{size}: top 5 and softmax over the gallery", f"{ours_s:.2f} s", f"{ours_s / bare_s:.2f}"))
        ours_s = seconds(lambda n=n: evaluate(model, features[:n], [angle[:n] for angle in truth], gallery))
        rows.append(
            (f"{size}: evaluation, the gallery's embedding and metrics too", f"{ours_s:.1f} s", "1 (evaluation)")
        )
        if peer_s:
            name = f"{size}: geoclip's eval_images, such batches, from its time a photo"
            rows.append((name, f"{peer_s * n:,.0f} s", f"{peer_s * n / ours_s:.0f}"))

    n = N_QUERIES[0]
    photos = torch.from_numpy(features[:n].astype(np.float32)).to(DEVICE)
    on_device = torch.from_numpy(training.astype(np.float32)).to(DEVICE)
    bare_s, ours_s = least_seconds(
        lambda: product(photos, on_device), lambda: image_knn(photos, FeatureRows([training]), TOP_K)
    )
    size = f"{n:,} x {N_GALLERY:,}, width {FEATURE_WIDTH}"
    rows.append((f"{size}: bare product", f"{bare_s:.2f} s", "1 (product)"))
    rows.append((f"{size}: image k-NN, float16 features read in chunks", f"{ours_s:.2f} s", f"{ours_s / bare_s:.2f}"))

    # What the kriging costs does not depend on the numbers of the semivariogram; nested is its dearest model.
    shape, ones = {"short_share": 0.5, "short_ratio": 0.01}, [np.ones(1)] * 6
    semivariogram = Semivariogram("nested", 0.1, 0.5, 1500.0, shape, {}, 0.01, 0.9, *ones)
    known = gallery, kriging.index(*gallery, FeatureRows([training])), gallery, semivariogram
    (candidates,) = find_candidates(model, [features[:N_REFINED]], *known)
    refined_s = seconds(lambda: [rank(found, Setting(16.0, "kriged"), TOP_K) for found in candidates]) / N_REFINED
    rows.append(("refined answer, a photo, beyond both retrievals: 128 candidates", f"{refined_s * 1e3:.1f} ms", ""))

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        osv5m = pool.submit(osv5m_slice).result()
    size = f"{OSV5M_QUERIES:,} x {OSV5M_GALLERY:,}"
    part = f"{OSV5M_QUERIES:,} x {OSV5M_CHUNKS * GALLERY_CHUNK:,}"
    memory = f"{osv5m['memory_gb']:.1f} GB", f"and {osv5m['gpu_memory_gb']:.1f} on the GPU"
    rows.append((f"{part}: evaluation of a slice, in a process of its own", f"{osv5m['slice_s']:.1f} s", ""))
    rows.append((f"{size}: evaluation, extrapolated from it", f"{osv5m['hours']:.1f} h", ""))
    rows.append((f"{size}: peak memory, measured on the slice", *memory))
    where = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"{torch.get_num_threads()} threads"
    title = f"Evaluation on {where}; load {os.getloadavg()[0]:.1f}"
    show_table(title, ("photos x places, and what is done", "time", "ratio"), rows)


if __name__ == "__main__":
    main()
