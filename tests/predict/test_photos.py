import pytest
from PIL import Image

from stages.cli import InputError
from stages.predict.photos import list_photos, read_photo


def test_a_folder_stands_for_the_photos_below_it_by_name(tmp_path):
    for name in ("b.JPG", "a.png", "deep/c.jpeg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    named = tmp_path / "notes.txt"
    listed = [path.relative_to(tmp_path).as_posix() for path in list_photos([named, tmp_path, tmp_path / "a.png"])]
    assert listed == ["notes.txt", "a.png", "b.JPG", "deep/c.jpeg"]


def test_a_folder_without_photos_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no photo; looked for files ending in .jpg, "):
        list_photos([tmp_path])


def test_a_photo_is_upright_and_as_small_as_in_training(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees
    Image.new("RGB", (80, 40)).save(tmp_path / "photo.jpg", exif=exif)
    assert read_photo(tmp_path / "photo.jpg", 0).size == (40, 80)
    assert read_photo(tmp_path / "photo.jpg", 20).size == (20, 40)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "RGB"])
def test_every_kind_of_image_is_read(tmp_path, mode):
    Image.new(mode, (4, 3)).save(tmp_path / "photo.png")
    assert read_photo(tmp_path / "photo.png", 0).size == (4, 3)


def test_what_cannot_be_read_is_named_with_the_reason(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "photo.jpg")
    whole = (tmp_path / "photo.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no photo")
    for name, reason in (
        ("half.jpg", "unreadable image"),
        ("text.jpg", "unreadable image"),
        ("gone.jpg", "No such file or directory"),
    ):
        with pytest.raises(InputError, match=f"{name}: {reason}"):
            read_photo(tmp_path / name, 0)
