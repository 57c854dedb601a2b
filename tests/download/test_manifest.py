import hashlib
import json

from stages.download import manifest


def test_a_manifest_names_every_file_with_its_size_and_hash(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "00.zip").write_bytes(b"zip")
    (tmp_path / "b.csv").write_bytes(b"")
    manifest.write_manifest(tmp_path, "mirror", None, {})
    assert json.loads((tmp_path / "manifest.json").read_text()) == {
        "source": "mirror",
        "revision": None,
        "files": [
            {"path": "b.csv", "bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()},
            {"path": "images/00.zip", "bytes": 3, "sha256": hashlib.sha256(b"zip").hexdigest()},
        ],
    }


def test_damaged_files_are_removed_and_sound_and_new_ones_stay(tmp_path):
    for name in ("sound", "cut", "changed", "lost"):
        (tmp_path / name).write_bytes(b"content")
    manifest.write_manifest(tmp_path, "hub", "main", {})
    (tmp_path / "cut").write_bytes(b"cont")
    (tmp_path / "changed").write_bytes(b"CONTENT")
    (tmp_path / "lost").unlink()
    (tmp_path / "new").write_bytes(b"")
    assert list(manifest.remove_damaged(tmp_path)) == ["sound"]
    assert manifest.files_in(tmp_path) == ["new", "sound"]
    assert manifest.revision_in(tmp_path) == "main"


def test_a_folder_without_a_manifest_has_no_revision_and_nothing_to_check(tmp_path):
    (tmp_path / "file").touch()
    assert manifest.remove_damaged(tmp_path) == {}
    assert manifest.revision_in(tmp_path) is None
    assert manifest.files_in(tmp_path) == ["file"]


def test_a_file_replaced_since_it_was_checked_is_hashed_again(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    sound = {entry["path"]: entry for entry in manifest.write_manifest(tmp_path, "mirror", None, {})}
    (tmp_path / "file").write_bytes(b"newer")
    (entry,) = manifest.write_manifest(tmp_path, "mirror", None, sound)
    assert entry["sha256"] == hashlib.sha256(b"newer").hexdigest()


def test_files_that_are_no_longer_wanted_go(tmp_path):
    for name in ("keep", "drop", ".drop.partial"):
        (tmp_path / name).touch()
    manifest.remove_others(tmp_path, ["keep", "absent"])
    assert manifest.files_in(tmp_path) == ["keep"]
