"""The child process that decodes one uploaded picture: pixels out, and nothing else.

Run as a program by `web.media.pictures`. It reads the upload from stdin, may use no more memory and
CPU than given here, writes no file, and answers with a picture made anew: no metadata, no
trailing bytes, one frame. Its exit code 2 means that its one line of stderr is for the user.
"""

import contextlib
import io
import math
import resource
import sys
import warnings
from typing import Final

from PIL import Image, ImageCms, ImageOps

MEMORY_BYTES: Final = 768 << 20
CPU_SECONDS: Final = 8
MAX_PIXELS: Final = 25_000_000
KEPT_PIXELS: Final = 2_500_000
"""Of what is kept, at most four times as many: beyond what models paint, at a part of the work."""
REFUSED: Final = 2
FORMATS: Final = ("PNG", "JPEG", "WEBP")
LIMITS: Final = {
    resource.RLIMIT_AS: MEMORY_BYTES,
    resource.RLIMIT_CPU: CPU_SECONDS,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 16,
}


class RefusedPicture(Exception):
    """A picture that is not taken; the message is for whoever sent it."""


def main() -> int:
    """Decode stdin's picture and write it anew to stdout."""
    for limit, value in LIMITS.items():
        with contextlib.suppress(ValueError, OSError):  # macOS knows no RLIMIT_AS
            resource.setrlimit(limit, (value, value))
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        picture = remade(sys.stdin.buffer.read())
    except RefusedPicture as refusal:
        sys.stderr.write(str(refusal))
        return REFUSED
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError, MemoryError):
        sys.stderr.write("The reference image is damaged.")
        return REFUSED
    except Image.DecompressionBombError:
        sys.stderr.write("The reference image has more than 25 megapixels.")
        return REFUSED
    sys.stdout.buffer.write(picture)
    return 0


def remade(data: bytes) -> bytes:
    """Return the same picture, upright and in sRGB, as a JPEG if it was one and else as a PNG.

    A large one is made smaller, while it is decoded where its format can do that.

    Raises:
        RefusedPicture: it moves, is too large, or has a colour profile that is none of its colours.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as file:
        file.verify()  # the sums of every chunk, which decoding does not look at
    with Image.open(io.BytesIO(data), formats=FORMATS) as file:
        if file.width * file.height > MAX_PIXELS:
            raise RefusedPicture("The reference image has more than 25 megapixels.")
        if file.format in ("PNG", "WEBP") and getattr(file, "n_frames", 1) > 1:
            raise RefusedPicture("The reference image moves; send a still one.")
        is_jpeg = file.format in ("JPEG", "MPO")
        share = 1 / _divisor(file)
        file.draft(None, (round(file.width * share), round(file.height * share)))
        file.load()
        upright = ImageOps.exif_transpose(_smaller(file))
    plain = _smaller(_in_srgb(_smaller(_in_channels(upright))))
    bare = Image.frombytes(plain.mode, plain.size, plain.tobytes())
    out = io.BytesIO()
    if is_jpeg:
        bare.save(out, "JPEG", quality=95)
    else:
        bare.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _in_channels(picture: Image.Image) -> Image.Image:
    """Return a picture as L, LA, RGB, RGBA or CMYK of 8 bits, with all that is said of it."""
    if picture.mode.startswith("I"):  # 16 bits of gray
        gray = picture.point(lambda value: value * (1 / 257) + 0.5).convert("L")
        gray.info = dict(picture.info)
        if "transparency" in gray.info:
            gray.info["transparency"] = round(gray.info["transparency"] / 257)
        picture = gray
    if picture.has_transparency_data:
        return picture.convert("LA" if picture.mode in ("L", "LA") else "RGBA")
    if picture.mode in ("L", "RGB", "CMYK"):
        return picture
    return picture.convert("L" if picture.mode == "1" else "RGB")


def _in_srgb(picture: Image.Image) -> Image.Image:
    """Return a picture as RGB or RGBA in sRGB; what has no profile is taken to be in it.

    Raises:
        RefusedPicture: its profile cannot be read, or is of other colours than it has.
    """
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    colours = picture if alpha is None else picture.convert(picture.mode.removesuffix("A"))
    icc = picture.info.get("icc_profile")
    plain = _converted(colours, icc) if icc else colours.convert("RGB")
    if alpha is not None:
        plain.putalpha(alpha)
    return plain


def _converted(picture: Image.Image, icc: bytes) -> Image.Image:
    """Return a picture's colours in sRGB: what is outside of it is the nearest there."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
        if picture.mode == "L" and space == "RGB":  # a gray of a coloured file's profile
            picture = picture.convert("RGB")
        if space != {"L": "GRAY"}.get(picture.mode, picture.mode):
            raise RefusedPicture(
                f"The reference image has {picture.mode} colours and a colour profile for {space}."
            )
        made = ImageCms.profileToProfile(
            picture,
            profile,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        raise RefusedPicture("The reference image has a colour profile that is none.") from None
    assert made is not None, "it is not converted in place"
    return made


def _divisor(picture: Image.Image) -> int:
    """Return by what both sides are divided, so that about as many pixels are left as are kept."""
    return max(1, math.isqrt(picture.width * picture.height // KEPT_PIXELS))


def _smaller(picture: Image.Image) -> Image.Image:
    """Return a picture of the size that is kept, or itself while its values are no colours."""
    averages = picture.mode in ("L", "LA", "RGB", "RGBA") and "transparency" not in picture.info
    by = _divisor(picture) if averages else 1
    if by == 1:
        return picture
    reduced = picture.reduce(by)
    reduced.info = picture.info  # which way up it is, and what is transparent
    return reduced


if __name__ == "__main__":
    sys.exit(main())
