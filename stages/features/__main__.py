"""Stage 3: the shards' images to CLIP features."""

import os
import time
from collections.abc import Callable
from functools import partial
from hashlib import file_digest, sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from stages.cli import InputError, run, show_table
from stages.cluster import Call, Workers, workers
from stages.features.encoder import Encoder, loaded_encoder, write_encoder
from stages.features.shard import center_shard, encode_shard, made_from, sum_of_features
from stages.params import Features, load_params
from stages.shards import SPLITS, keep_if_made_from, list_shards

VERSION = 2  # raised when the same photos and params give other files
UNCENTERED = "uncentered"  # kept beside the centred features: a new archive moves the mean of all


def main() -> None:
    """Embed the shards' photos with an open_clip encoder."""
    params = load_params()
    p = params.features
    shards, out = (Path("data", params.data.source, name) for name in ("shards", "features"))
    # A shard's name is its split and number, train/00000, and so is that of its features.
    names = [path.relative_to(shards).with_suffix("") for s in SPLITS for path in list_shards(shards / s, ".parquet")]
    n_photos, facts = {}, {}
    for name in names:
        n_photos[name], facts[name] = _read_footer(shards / name.with_suffix(".parquet"))
    counts = {split: sum(n for name, n in n_photos.items() if name.parts[0] == split) for split in SPLITS}
    if not counts["train"]:
        raise InputError(f"{shards} holds no training photos; run the shard stage first: dvc repro shard")
    load = partial(loaded_encoder, p.model, _weights(p.pretrained), p.seed)
    encoder = load()
    keep_if_made_from(out, _encoder_facts(p))
    unit_folder = out / UNCENTERED if p.center else out
    for folder in {out, unit_folder}:
        _remove_others(folder, names)

    new = {name: n for name, n in n_photos.items() if made_from(_arrow(unit_folder, name)) != facts[name]}
    start = time.monotonic()
    with workers(params.cluster) as machine:
        _embed(machine, shards, unit_folder, new, facts, load=load, batch_size=p.batch_size)
    seconds = time.monotonic() - start
    mean = _center(unit_folder, out, n_photos, facts=facts) if p.center else None
    short_side_px = params.shard.short_side_px
    write_encoder(out / "encoder.json", encoder, p, short_side_px=short_side_px, mean=mean, n_photos=counts)

    n_new = sum(new.values())
    rate = f"{n_new / seconds:,.0f} photos/s on {encoder.device.type}" if n_new else "nothing new"
    rows = [(split, f"{n:,}", encoder.width) for split, n in counts.items()]
    show_table(f"Features of {p.model} ({p.pretrained}): {rate}", ["split", "photos", "width"], rows)


def _read_footer(shard: Path) -> tuple[int, str]:
    """A Parquet shard's number of photos and what tells it from another: the sha256 of its footer.

    The footer has the place and size of every column chunk, the bounds of the columns, and the shard stage's checksum
    of the photos. Hashing 200 GB of images instead would take longer than embedding a part of them.
    """
    try:
        metadata = pq.read_metadata(shard)
    except pa.ArrowInvalid as error:
        raise InputError(f"{shard} is not a whole Parquet file ({error}); delete it and run: dvc repro shard") from None
    with shard.open("rb") as file:
        file.seek(-8 - metadata.serialized_size, os.SEEK_END)  # its length and the letters PAR1 follow it
        return metadata.num_rows, sha256(file.read(metadata.serialized_size)).hexdigest()


def _weights(pretrained: str) -> str:
    """A weights file under a name that every node of a cluster that shares it knows; a tag as it is."""
    return str(Path(pretrained).resolve()) if Path(pretrained).is_file() else pretrained


def _encoder_facts(p: Features) -> dict:
    """What all features depend on: the params, and the contents of a weights file."""
    facts = {"version": VERSION} | p.model_dump(exclude={"batch_size"})
    if Path(p.pretrained).is_file():
        with Path(p.pretrained).open("rb") as file:
            facts["weights_sha256"] = file_digest(file, "sha256").hexdigest()
    return facts


def _arrow(folder: Path, name: Path) -> Path:
    return folder / name.with_suffix(".arrow")


def _remove_others(folder: Path, names: list[Path]) -> None:
    """Remove the features of shards that are no longer there, and what a killed run left."""
    wanted = {_arrow(folder, name) for name in names}
    for split in SPLITS:
        for path in set((folder / split).glob("*")) - wanted:
            path.unlink()


def _embed(
    machine: Workers,
    shards: Path,
    out: Path,
    n_photos: dict[Path, int],
    facts: dict[Path, str],
    *,
    load: Callable[[], Encoder],
    batch_size: int,
) -> None:
    """Write the unit features of the shards that n_photos names."""
    with tqdm(total=sum(n_photos.values()), unit=" photos", mininterval=1, disable=not n_photos) as bar:
        calls = []
        for name in n_photos:
            files = shards / name.with_suffix(".parquet"), _arrow(out, name)
            args = (*files, load, facts[name], batch_size)
            calls.append(Call(args, files[:1], files[1:]))
        for _ in machine.map(encode_shard, calls, bar.update, on_gpu=True):
            pass


def _center(unit_folder: Path, out: Path, n_photos: dict[Path, int], *, facts: dict[Path, str]) -> np.ndarray:
    """Write all features minus the training mean (d,) float32, which is given back; those that lack it already stay."""
    train = [name for name in n_photos if name.parts[0] == "train"]
    mean = sum(sum_of_features(_arrow(unit_folder, name)) for name in train) / sum(n_photos[name] for name in train)
    mean = mean.astype(np.float32)
    for name, its_facts in facts.items():
        its_facts = f"{its_facts} {sha256(mean).hexdigest()}"
        if made_from(_arrow(out, name)) != its_facts:
            center_shard(_arrow(unit_folder, name), _arrow(out, name), mean, its_facts)
    return mean


if __name__ == "__main__":
    run(main)
