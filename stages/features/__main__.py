"""Stage 3: the shards' images to CLIP features."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm

from stages.cli import InputError, run, show_table
from stages.features.encoder import load_encoder, write_encoder
from stages.features.shard import center_shard, encode_shard, made_from, sum_of_features
from stages.params import load_params
from stages.shards import SPLITS, keep_if_made_from, list_shards

UNCENTERED = "uncentered"  # kept beside the centred features: a new archive moves the mean of all


def main() -> None:
    """Embed the shards' photos with an open_clip encoder."""
    params = load_params()
    p = params.features
    shards, out = (Path("data", params.data.source, name) for name in ("shards", "features"))
    names = [path.relative_to(shards).with_suffix("") for s in SPLITS for path in list_shards(shards / s, ".parquet")]
    if not any(name.parts[0] == "train" for name in names):
        raise InputError(f"{shards} holds no training shards; run the shard stage first: dvc repro shard")
    encoder = load_encoder(p.model, p.pretrained, p.seed)
    weights = Path(p.pretrained)
    its_weights = {"weights_sha256": sha256(weights.read_bytes()).hexdigest()} if weights.is_file() else {}
    keep_if_made_from(out, p.model_dump(exclude={"batch_size"}) | its_weights)
    unit_folder = out / UNCENTERED if p.center else out
    for folder in {out, unit_folder}:
        _remove_others(folder, names)

    images = {name: shards / name.with_suffix(".parquet") for name in names}
    unit = {name: unit_folder / name.with_suffix(".arrow") for name in names}
    facts = {name: _facts(path) for name, path in images.items()}
    waiting = [name for name in names if made_from(unit[name]) != facts[name]]
    n_photos = {name: pq.read_metadata(path).num_rows for name, path in images.items()}
    start = time.monotonic()
    with (
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        tqdm(total=sum(n_photos[n] for n in waiting), unit=" photos", mininterval=1, disable=not waiting) as bar,
    ):
        for name in waiting:
            encode_shard(
                images[name],
                unit[name],
                encoder,
                batch_size=p.batch_size,
                facts=facts[name],
                pool=pool,
                advance=bar.update,
            )
    seconds = time.monotonic() - start

    mean = None
    if p.center:
        train = [name for name in names if name.parts[0] == "train"]
        mean = sum(sum_of_features(unit[name]) for name in train) / sum(n_photos[name] for name in train)
        mean = mean.astype(np.float32)
        for name in names:
            final, its_facts = out / name.with_suffix(".arrow"), f"{facts[name]} {sha256(mean).hexdigest()}"
            if made_from(final) != its_facts:
                center_shard(unit[name], final, mean, its_facts)
    counts = {s: sum(n for name, n in n_photos.items() if name.parts[0] == s) for s in SPLITS}
    write_encoder(out / "encoder.json", encoder, p, mean, counts)

    n_new = sum(n_photos[name] for name in waiting)
    rate = f"{n_new / seconds:,.0f} photos/s on {encoder.device.type}" if n_new else "nothing new"
    rows = [(split, f"{n:,}", encoder.width) for split, n in counts.items()]
    show_table(f"Features of {p.model} ({p.pretrained}): {rate}", ["split", "photos", "width"], rows)


def _facts(shard: Path) -> str:
    """What tells a Parquet shard from another: its footer, which has the sizes and bounds of every column chunk.

    And not its images' bytes: hashing 200 GB would take longer than embedding a part of it.
    """
    with shard.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-8 - length, os.SEEK_END)
        return sha256(file.read(length)).hexdigest()


def _remove_others(folder: Path, names: list[Path]) -> None:
    """Remove the feature shards of Parquet shards that are no longer there."""
    for split in SPLITS:
        for path in list_shards(folder / split, ".arrow"):
            if path.relative_to(folder).with_suffix("") not in names:
                path.unlink()


if __name__ == "__main__":
    run(main)
