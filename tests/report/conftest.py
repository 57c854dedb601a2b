"""A small run as the stages before the report leave it."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages.evaluate.__main__ import prediction_table
from stages.evaluate.choice import IMAGE_KNN, MODEL, Setting, describe
from stages.evaluate.gallery import TopPlaces
from stages.evaluate.metrics import summarize
from stages.params import load_params
from stages.report import __main__ as command
from stages.shards import REJECTED_SCHEMA, SHARD_SCHEMA, read_features, write_json
from stages.variogram.__main__ import empirical_table, example_table
from stages.variogram.empirical import EmpiricalSemivariogram
from stages.variogram.models import Semivariogram, write_model
from stages.variogram.negatives import Pair
from stages.world import truth

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
LAG_KM = np.geomspace(0.08, 15_000, 12)
COASTLINES = "line,latitude,longitude\n0,10,170\n0,20,-170\n1,-60,0\n1,-70,20\n1,-60,40\n"


def make_model(name="exponential", range_km=500.0):
    """A semivariogram that fits its bins."""
    shape = {"reach_km": 15_000.0} if name == "linear" else {}
    semivariance = 0.1 + 0.6 * (1 - np.exp(-3 * LAG_KM / 500))
    numbers = {"lag_km": LAG_KM, "semivariance": semivariance, "std": np.full(12, 0.2)}
    numbers |= {"n_pairs": np.full(12, 100), "se_block": np.full(12, 0.02), "se_model": np.full(12, 0.01)}
    numbers |= {"weighted_rmse": 0.01, "r2": -0.25, "reason": "it predicts held-out blocks best"}
    return Semivariogram(name, 0.1, 0.0 if name == "nugget" else 0.6, range_km, shape, {}, **numbers)


def make_empirical():
    """The lag bins of the model, an empty one and one without a block error among them."""
    edges_km = np.append(0.0, np.sqrt(LAG_KM[1:] * LAG_KM[:-1]))
    model, n_pairs, se_block = make_model(), np.full(12, 100), np.full(12, 0.02)
    n_pairs[1], se_block[2] = 0, np.nan
    numbers = {"lag_from_km": edges_km, "lag_to_km": np.append(edges_km[1:], 20_000.0), "lag_km": LAG_KM}
    numbers |= {"semivariance": model.semivariance, "std": model.std, "n_pairs": n_pairs, "se_sampling": se_block}
    numbers |= {"se_block": se_block, "largest_block_share": se_block, "estimator": "matheron", "sums": None}
    return empirical_table(EmpiricalSemivariogram(**numbers))


def image(colour, kind="JPEG", size=(64, 48)):
    """Bytes of an image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


class Tree:
    """A project folder, the working folder, with params of its own and all that the report reads."""

    def __init__(
        self, write_features, monkeypatch, source="world", losses=("infonce", "semivariogram"), refined=(), n_test=12
    ):
        rng = np.random.default_rng(5)
        self.data, self.losses, self.refined = Path("data", source), list(losses), list(refined)
        self.places = {}
        for split, n in (("train", 40), ("test", n_test)):
            town = rng.integers(0, 3, n)
            latitude = np.array([89.5, -17.0, 10.0])[town] + rng.normal(0, 0.05, n)
            longitude = np.array([0.0, 179.9, 20.0])[town] + rng.normal(0, 0.05, n)
            names = {"country": [("AA", "FJ", None)[t] for t in town], "city": ["A & B"] * n}
            names["sequence"] = [f"drive {row // 2}" for row in range(n)]
            ids = [f"{split}{row}" for row in range(n)]
            path = self.data / f"features/{split}/00000.arrow"
            write_features(path, latitude, longitude, np.eye(4)[town], id=ids, **names)
            self.places[split] = read_features(path.parent)[0]
            self.write_photos(split, ids, town)
        pq.write_table(REJECTED_SCHEMA.empty_table(), self.data / "shards/rejected.parquet")
        counts = {"train": 40, "val": 4, "test": n_test}
        facts = {"model": "tiny <model>", "pretrained": "untrained", "width": 4, "photos": counts}
        write_json(self.data / "features/encoder.json", facts)
        geography = self.data / "raw/geography"
        geography.mkdir(parents=True)
        (geography / "coastlines.csv").write_text(COASTLINES)
        if source == "world":
            write_json(geography / "truth.json", truth.describe())
        self.write_variogram()
        for name in (*losses, "image_knn", "most_frequent", *(f"{loss}_refined" for loss in refined)):
            self.write_answers(name, rng)
        for loss in losses:
            self.write_training(loss)
        self.use(monkeypatch)

    def use(self, monkeypatch, **evaluate):
        """Make the report read params of this tree."""
        sections = {
            "data": PARAMS.data.model_copy(update={"source": self.data.name}),
            "train": PARAMS.train.model_copy(update={"losses": self.losses}),
            "evaluate": PARAMS.evaluate.model_copy(
                update={"gallery": "train", "gallery_size": 0, "refine": self.refined} | evaluate
            ),
            "report": PARAMS.report.model_copy(update={"n_examples": 1}),
        }
        monkeypatch.setattr(command, "load_params", lambda: PARAMS.model_copy(update=sections))

    def write_photos(self, split, ids, town):
        photos = [image(("red", "green", "blue")[t]) for t in town]
        values = {"id": ids, **self.places[split].drop("id").to_dict(as_series=False), "image": photos}
        table = pa.table([pa.array(values[field.name], field.type) for field in SHARD_SCHEMA], SHARD_SCHEMA)
        folder = self.data / "shards" / split
        folder.mkdir(parents=True)
        pq.write_table(table, folder / "00000.parquet", row_group_size=5)

    def write_variogram(self, model=None):
        write_model(model or make_model(), Path("data/variogram/model.json"))
        reports = Path("reports/variogram")
        reports.mkdir(parents=True, exist_ok=True)
        make_empirical().write_csv(reports / "empirical.csv")
        hard = Pair("hard_negative", 0, 1, lag_km=9000.0, distance=0.1, expected_distance=0.7, z=3.0, strength=3.0)
        pairs = [hard, replace(hard, kind="false_negative", lag_km=0.4)]
        example_table(pairs, self.places["train"]["id"]).write_csv(reports / "example_pairs.csv")
        for name in ("semivariogram", "negatives"):
            (reports / f"{name}.png").write_bytes(image("white", "PNG"))

    def write_answers(self, name, rng):
        test, train = self.places["test"], self.places["train"]
        rows = rng.integers(0, len(train), (len(test), 3))
        top = TopPlaces(train["latitude"].to_numpy()[rows], train["longitude"].to_numpy()[rows], None)
        predictions = prediction_table(test, top)
        Path("data/predictions").mkdir(exist_ok=True)
        predictions.write_parquet(f"data/predictions/{name}.parquet")
        areas = {"country": np.round(rng.random(len(test)))}
        metrics = summarize(predictions["error_km"].to_numpy(), np.arange(len(test)), areas, n_bootstrap=100, seed=1)
        if name.endswith("_refined"):
            near, far = np.array([0.5, 20.0, 9000.0]), np.array([20.0, 20.0, 20.0])
            chosen = Setting(8.0, "kriged")
            metrics |= describe(chosen, {MODEL: near, IMAGE_KNN: near, chosen: far})
        write_json(Path(f"reports/evaluation/{name}.json"), metrics)

    def write_training(self, loss):
        own = {"semivariogram": {"beta_hard": 2.0, "beta_false": 4.0, "soft_share": 0.2, "soft_length_km": 10.0}}.get(
            loss, {}
        )
        config = {"training": {"loss": loss, "weight_decay": 1e-06, "sigmas": [1.0, 16.0], loss: own}}
        write_json(Path(f"data/models/{loss}/config.json"), config)
        curve = {"epoch": [0.5, 1.0], "validation_loss": [6.0, 5.0]}
        curve |= {"accuracy_25km": [0.1, 0.2], "accuracy_200km": [0.2, 0.3]}
        Path("reports/training").mkdir(exist_ok=True)
        pl.DataFrame(curve).write_csv(f"reports/training/{loss}.csv")

    def report(self):
        """Run the stage; the page."""
        command.main()
        return Path("reports/index.html").read_text()

    def metrics(self, name):
        return json.loads(Path(f"reports/evaluation/{name}.json").read_text())


@pytest.fixture
def tree(tmp_path, monkeypatch, write_features):
    """Makes a tree in an empty folder, which becomes the working folder."""
    monkeypatch.chdir(tmp_path)
    return lambda **facts: Tree(write_features, monkeypatch, **facts)


@pytest.fixture
def model():
    return make_model


@pytest.fixture
def empirical():
    return make_empirical()
