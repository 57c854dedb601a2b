import contextlib
import zipfile

import numpy as np
import pytest

from stages.cli import InputError
from stages.shard import archive


def test_photos_are_listed_by_name_whatever_folder_they_are_in(zipped):
    names = ["00/12.jpg", "3.JPG", "a/b/c/4.jpeg", "..\\..\\5.jpg", "../../6.jpg"]
    others = ["00/", "__MACOSX/00/._12.jpg", "00/._12.jpg", ".jpg", "read.me", "7.png", "Thumbs.db"]
    listed = archive.list_photos(zipped("00.zip", dict.fromkeys([*others, *names], b"x")))
    assert listed["id"].to_list() == ["12", "3", "4", "5", "6"]
    assert listed["bytes"].to_list() == [1] * 5


def test_an_archive_without_photos_lists_none(zipped):
    assert archive.list_photos(zipped("00.zip", {})).height == 0


def test_photos_are_read_in_place_and_reasons_stand_for_those_that_cannot_be(zipped, photo, tmp_path):
    path = zipped("00.zip", {"1.jpg": photo(1), "2.jpg": b"", "3.jpg": photo(3)[:200], "4.jpg": photo(4)})
    results = archive.read_photos(path, archive.list_photos(path)["member"].to_list(), 256)
    assert results == [photo(1), "empty file", "unreadable image", photo(4)]
    assert list(tmp_path.iterdir()) == [path]


def test_a_photo_with_a_wrong_checksum_is_damaged(zipped, photo):
    path = zipped("00.zip", {"1.jpg": photo(1), "2.jpg": photo(2)})
    data = bytearray(path.read_bytes())
    data[data.index(photo(1)) + 500] ^= 1
    path.write_bytes(data)
    assert archive.read_photos(path, [0, 1], 0) == ["damaged in the archive", photo(2)]


def test_an_encrypted_photo_is_damaged(zipped, photo):
    path = zipped("00.zip", {"1.jpg": photo(1)})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert archive.read_photos(path, [0], 0) == ["damaged in the archive"]


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "00.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("1.jpg", "w") as member:
        for _ in range(101):
            member.write(bytes(1_000_000))
    assert path.stat().st_size < 200_000
    assert archive.read_photos(path, [0], 256) == ["too many bytes"]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_truncated_archive_is_refused_with_a_way_out(zipped, photo, share):
    path = zipped("00.zip", {f"{i}.jpg": photo(i) for i in range(4)})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(
        InputError, match=r"00\.zip is not a whole zip archive .*bytes\); delete it.*dvc repro download"
    ):
        archive.list_photos(path)


def test_a_zip_bomb_that_lies_about_its_size_is_damaged(tmp_path):
    path = tmp_path / "00.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("1.jpg", bytes(50_000_000))
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02") + 24  # the size in the directory
    data[at : at + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    assert archive.read_photos(path, [0], 256) == ["damaged in the archive"]


COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_whatever_byte_is_wrong_is_a_reason_or_an_archive_that_is_refused(tmp_path, photo, compression):
    path, rng = tmp_path / "00.zip", np.random.default_rng(compression)
    with zipfile.ZipFile(path, "w", compression) as file:
        for number, form in enumerate(("JPEG", "PNG", "TIFF", "WEBP")):
            file.writestr(f"00/{number}.jpg", photo(number, (24, 16), form=form))
    whole = path.read_bytes()
    for trial in range(120):
        data = bytearray(whole)
        first = len(data) - 300 if trial % 2 else 0  # the directory is at the end
        data[rng.integers(first, len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        archive._opened.cache_clear()
        with contextlib.suppress(InputError):
            photos = archive.read_photos(path, archive.list_photos(path)["member"].to_list(), 8)
            assert {type(each) for each in photos} <= {bytes, str}
