import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from stages.shard.images import UnusableImageError, prepare


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def saved(image, form="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("short_side_px", [0, 32, 33])
def test_an_upright_small_jpeg_keeps_its_bytes(photo, mode, short_side_px):
    data = photo(mode=mode)
    assert prepare(data, short_side_px) is data


@pytest.mark.parametrize(
    ("size", "short_side_px", "wanted"),
    [((480, 320), 32, (48, 32)), ((320, 480), 64, (64, 96)), ((1000, 2), 1, (500, 1)), ((33, 33), 32, (32, 32))],
)
def test_a_large_photo_is_shrunk_to_its_short_side(photo, size, short_side_px, wanted):
    assert opened(prepare(photo(size=size), short_side_px)).size == wanted


def test_shrinking_while_decoding_looks_like_shrinking_afterwards():
    ramp = np.add.outer(np.arange(600), np.arange(800))[..., None] * [0.1, 0.15, 0.18]
    image = Image.fromarray(ramp.astype(np.uint8))
    small = np.asarray(opened(prepare(saved(image, quality=95), 100)), float)
    plain = np.asarray(image.resize((133, 100)), float)
    assert np.abs(small - plain).max() < 8  # of 255: two JPEG compressions of a smooth ramp


@pytest.mark.parametrize("short_side_px", [0, 8])
@pytest.mark.parametrize(("orientation", "turn"), [(3, 180), (6, 270), (8, 90)])
def test_a_rotated_photo_is_turned_upright(orientation, turn, short_side_px):
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:16, :16] = 255  # a white corner says which way is up
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = opened(prepare(saved(image, exif=exif, quality=95), short_side_px))
    expected = image.rotate(turn, expand=True).resize(upright.size)
    assert upright.getexif().get(0x0112, 1) == 1
    np.testing.assert_allclose(np.asarray(upright, float), np.asarray(expected, float), atol=90)
    assert np.abs(np.asarray(upright, float) - np.asarray(expected, float)).mean() < 6


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("CMYK", "JPEG"),
        ("RGB", "MPO"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("P", "GIF"),
        ("1", "BMP"),
        ("RGB", "WEBP"),
    ],
)
def test_other_modes_and_formats_become_rgb_jpeg(mode, form):
    grey = Image.fromarray(np.full((20, 30, 3), 128, np.uint8))
    image = opened(prepare(saved(grey.convert(mode), form), 0))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (30, 20))
    assert abs(np.asarray(image, float).mean() - (128 if mode != "1" else np.asarray(image).mean())) < 4


def test_sixteen_bit_grey_keeps_its_shades():
    shades = np.linspace(0, 65535, 64).astype(np.uint16).repeat(64).reshape(64, 64)
    image = np.asarray(opened(prepare(saved(Image.fromarray(shades), "PNG"), 0)), float)
    np.testing.assert_allclose(image.mean(axis=(1, 2)), np.linspace(0, 255, 64), atol=3)


def test_what_is_transparent_is_white():
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert opened(prepare(saved(clear, "PNG"), 0)).getpixel((4, 4)) == (255, 255, 255)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_of_several_pictures_in_one_file_the_first_counts(form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    image = opened(prepare(saved(frames[0], form, save_all=True, append_images=frames[1:]), 0))
    red, _, blue = image.getpixel((4, 4))
    assert (image.format, red > 200, blue < 50) == ("JPEG", True, True)


@pytest.mark.parametrize("short_side_px", [0, 16, 256])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_photo_is_unreadable(photo, short_side_px, share):
    data = photo(size=(200, 150))
    with pytest.raises(UnusableImageError, match="^unreadable image$"):
        prepare(data[: int(share * len(data))], short_side_px)


@pytest.mark.parametrize("data", [b"<html>404 Not Found</html>", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_photo_is_unreadable(data):
    with pytest.raises(UnusableImageError, match="^unreadable image$"):
        prepare(data, 0)


def test_an_empty_file_is_named_so():
    with pytest.raises(UnusableImageError, match="^empty file$"):
        prepare(b"", 0)


def jpeg_header(photo, width, height):
    data = bytearray(photo())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def png_header(_, width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))


@pytest.mark.parametrize("header", [jpeg_header, png_header])
@pytest.mark.parametrize("side", [9_500, 12_000, 40_000])
def test_a_decompression_bomb_is_refused_by_its_header(photo, header, side):
    with pytest.raises(UnusableImageError, match="^too many pixels$"):
        prepare(header(photo, side, side), 256)
