"""How long evaluation takes, against the bare matrix product and geoclip: python -m tests.benchmarks.evaluate.

The model has GeoCLIP's widths and random weights; features and places are random. geoclip evaluates the same features
with its CLIP replaced by the identity, if it is installed (pip install -e '.[peers]').
"""

import contextlib
import importlib
import io
import resource
import time

import numpy as np
import torch

from stages.cli import show_table
from stages.evaluate import metrics
from stages.evaluate.gallery import embed_photos, embed_places, locate
from stages.evaluate.retrieval import GALLERY_CHUNK, chunked, retrieve
from stages.geo import great_circle_km
from stages.train.model import seeded_model

N_GALLERY, FEATURE_WIDTH, EMBEDDING_WIDTH, TOP_K = 100_000, 768, 512, 5
N_PEER = 256  # queries that geoclip is given: it takes 0.1 s each
OSV5M_QUERIES, OSV5M_GALLERY = 210_000, 4_900_000


def seconds(work) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def random_places(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Uniform places on the sphere, in degrees."""
    return np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)


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
    batch = torch.from_numpy(features), torch.from_numpy(np.column_stack(truth))
    return lambda: eval_images([batch], peer)


@torch.inference_mode()
def main() -> None:
    """Time the parts of an evaluation and show them."""
    rng = np.random.default_rng(0)
    model = seeded_model(
        0,
        feature_width=FEATURE_WIDTH,
        embedding_width=EMBEDDING_WIDTH,
        hidden_width=1024,
        fourier_width=256,
        sigmas=(1, 16, 256),
    ).eval()
    gallery = random_places(N_GALLERY, rng)
    places = torch.nn.functional.normalize(torch.randn(N_GALLERY, EMBEDDING_WIDTH), dim=1)
    rows = []

    for n in (2_000, 20_000):
        queries = torch.nn.functional.normalize(torch.randn(n, EMBEDDING_WIDTH), dim=1)

        def product(queries=queries):
            for chunk in chunked(places, GALLERY_CHUNK):
                for tile in chunked(queries, 1024):
                    tile @ chunk.T

        bare_s = min(seconds(product) for _ in range(3))
        ours_s = min(
            seconds(lambda q=queries: retrieve(q, chunked(places, GALLERY_CHUNK), TOP_K, scale=14.0)) for _ in range(3)
        )
        rows.append((f"bare product, {n:,} x {N_GALLERY:,} x {EMBEDDING_WIDTH}", f"{bare_s:.2f} s", "1"))
        rows.append(("retrieval: top 5 and softmax over the gallery", f"{ours_s:.2f} s", f"{ours_s / bare_s:.2f}"))

    n = 2_000
    features = rng.normal(size=(n, FEATURE_WIDTH)).astype(np.float32)
    truth = random_places(n, rng)
    ours_s = seconds(lambda: evaluate(model, features, truth, gallery))
    rows.append((f"evaluation, {n:,} photos, {N_GALLERY:,} places", f"{ours_s:.1f} s", ""))
    few = tuple(angle[:N_PEER] for angle in truth)
    if peer := geoclips_evaluation(model, features[:N_PEER], few, gallery):
        with contextlib.redirect_stdout(io.StringIO()):
            peer_s = seconds(peer)
        rows.append((f"geoclip's eval_images, {N_PEER} photos, {N_GALLERY:,} places", f"{peer_s:.1f} s", ""))
        rows.append(("geoclip's time per photo over ours", "", f"{peer_s / N_PEER / (ours_s / n):.0f}"))

    # Embedding grows with the gallery, retrieval with queries times gallery: each is measured on a slice.
    part = random_places(4 * GALLERY_CHUNK, rng)
    embed_s = seconds(lambda: list(embed_places(model, *part))) / len(part[0])
    chunks = chunked(places[: len(part[0])], GALLERY_CHUNK)
    retrieve_s = seconds(lambda: retrieve(queries, chunks, TOP_K)) / (len(queries) * len(part[0]))
    osv5m_s = embed_s * OSV5M_GALLERY + retrieve_s * OSV5M_QUERIES * OSV5M_GALLERY
    rows.append((f"{OSV5M_QUERIES:,} x {OSV5M_GALLERY:,}, extrapolated", f"{osv5m_s / 3600:.1f} h", ""))
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    rows.append(("peak memory of this benchmark", f"{peak_gb:.1f} GB", ""))
    show_table(f"Evaluation on {torch.get_num_threads()} threads", ("what", "time", "ratio"), rows)


if __name__ == "__main__":
    main()
