"""One photo's bytes: checked by decoding them, upright, and no larger than asked."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")  # whatever the file's name says; none of them runs a program
MAX_PIXELS = 89_478_485  # Pillow's own limit: 0.25 GB decoded
JPEG_QUALITY = 90
ORIENTATION = 0x0112  # EXIF tag; 1 is upright


class UnusableImageError(ValueError):
    """A photo that is set aside; the message is the reason."""


def prepare(data: bytes, short_side_px: int) -> bytes:
    """The photo as an upright JPEG in RGB or grey whose short side is at most short_side_px (0: no limit).

    A JPEG that is so already keeps its bytes. Raises UnusableImageError if the photo can't be decoded to its end.
    """
    if not data:
        raise UnusableImageError("empty file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata is no reason to leave a photo out
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                if not _fits(image, short_side_px):
                    return _rewrite(image, short_side_px)
                # An eighth of the size costs half of the time, and reads the file to its end all the same.
                image.draft("L", (image.width // 8, image.height // 8))
                image.load()
                return data
        except Image.DecompressionBombError:
            raise UnusableImageError("too many pixels") from None
        except Exception as error:  # damaged bytes make decoders raise nearly anything
            raise UnusableImageError("unreadable image") from error


def _fits(image: Image.Image, short_side_px: int) -> bool:
    is_plain = image.format == "JPEG" and image.mode in ("RGB", "L") and image.getexif().get(ORIENTATION, 1) == 1
    return is_plain and (not short_side_px or min(image.size) <= short_side_px)


def _rewrite(image: Image.Image, short_side_px: int) -> bytes:
    if short_side_px:
        # A JPEG is decoded at the smallest half, quarter or eighth that is large enough.
        image.draft(None, (short_side_px, short_side_px))
    photo = _rgb(ImageOps.exif_transpose(image))
    if short_side_px and min(photo.size) > short_side_px:
        scale = short_side_px / min(photo.size)
        photo = photo.resize([max(round(side * scale), 1) for side in photo.size])
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _rgb(image: Image.Image) -> Image.Image:
    """Three bytes a pixel, of any mode; the first frame of several; what is transparent is white."""
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip it to white
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")
