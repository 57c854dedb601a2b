"""What a raw folder holds: each file's size and SHA-256, and the revision that it came from."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from stages.shards import FINGERPRINT, write_json

MANIFEST = "manifest.json"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_in(folder: Path) -> list[str]:
    """Paths of the files below folder, relative to it and sorted, without the fingerprint and the manifest."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if path not in (FINGERPRINT, MANIFEST))


def revision_in(folder: Path) -> str | None:
    """Revision in the folder's manifest; None if it has none."""
    path = folder / MANIFEST
    return json.loads(path.read_text())["revision"] if path.exists() else None


def remove_damaged(folder: Path) -> dict[str, dict]:
    """Remove files that are not what the folder's manifest says. Returns the entries of those that are, by path.

    A file that the manifest does not know stays: a run that was killed renamed it into place, so it is whole.
    """
    path = folder / MANIFEST
    sound = {}
    for entry in json.loads(path.read_text())["files"] if path.exists() else []:
        file = folder / entry["path"]
        if file.exists():
            if file.stat().st_size == entry["bytes"] and sha256_of(file) == entry["sha256"]:
                sound[entry["path"]] = entry
            else:
                file.unlink()
    return sound


def remove_others(folder: Path, wanted: Iterable[str]) -> None:
    """Remove every file below folder that is not wanted."""
    for path in set(files_in(folder)) - set(wanted):
        (folder / path).unlink()


def write_manifest(folder: Path, source: str, revision: str | None, sound: dict[str, dict]) -> list[dict]:
    """Write the manifest of all files below folder, sorted by path. Returns its entries.

    sound: entries of files that remove_damaged has just hashed; one that was replaced since has another size.
    """
    files = []
    for path in files_in(folder):
        size = (folder / path).stat().st_size
        if path in sound and sound[path]["bytes"] == size:
            files.append(sound[path])
        else:
            files.append({"path": path, "bytes": size, "sha256": sha256_of(folder / path)})
    write_json(folder / MANIFEST, {"source": source, "revision": revision, "files": files})
    return files
