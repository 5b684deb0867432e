"""Makes images smaller, in a process of its own: it decodes what strangers chose.

Run as a program with the limits as arguments; each line on standard input is a job (JSON), each line on standard
output its result. It imports nothing of the server and inherits nothing of it: no environment, no descriptors. Memory
and file sizes are limited by the kernel; time is limited by whoever started it, who kills it.

Job: {"source", "target": paths, "width", "height", "crop", "animated"}. Result: {"type": content type} when `target`
was written, {"original": true} when the source itself is what should be given, {"error": "too_large" | "unsupported"}.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import warnings
from typing import Any

from PIL import Image, ImageOps, ImageSequence

# Decoders that are used; Pillow has many more, which nobody watches as closely.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "AVIF")
_SHOWN_AS_THEY_ARE = ("PNG", "JPEG", "GIF", "WEBP")
_MAX_FRAMES = 200


class _TooLargeError(Exception):
    pass


def main() -> None:
    """Works until standard input ends. Arguments: largest number of pixels, bytes of memory, bytes of a file."""
    max_pixels, max_memory, max_file = (int(value) for value in sys.argv[1:4])
    with contextlib.suppress(ValueError, OSError):  # not every system can
        resource.setrlimit(resource.RLIMIT_AS, (max_memory, max_memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_file, max_file))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_result(json.loads(line), max_pixels)) + "\n")
        sys.stdout.flush()


def _result(job: dict[str, Any], max_pixels: int) -> dict[str, Any]:
    try:
        return _make(job, max_pixels)
    except (_TooLargeError, MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return {"error": "too_large"}
    # Decoders raise whatever they like of broken files, and each means that this is no image.
    except Exception:
        return {"error": "unsupported"}


def _make(job: dict[str, Any], max_pixels: int) -> dict[str, Any]:
    with Image.open(job["source"], formats=_FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise _TooLargeError
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        shown = (height, width) if turned else (width, height)
        moves = getattr(image, "is_animated", False)
        smaller = shown[0] <= job["width"] and shown[1] <= job["height"]
        if (smaller or shown[0] < job["width"] or shown[1] < job["height"]) and job["crop"]:
            # Never larger than it is: what is left is cut to the form that was asked for.
            smaller = smaller or _box(shown, job) == shown
        if smaller and image.format in _SHOWN_AS_THEY_ARE and (not moves or job["animated"]):
            return {"original": True}
        if moves and job["animated"]:
            return _animation(image, job, max_pixels)
        return _still(image, job)


def _box(size: tuple[int, int], job: dict[str, Any]) -> tuple[int, int]:
    """The size of what is made of an image of that size."""
    width, height = size
    if job["crop"]:
        part = min(1.0, width / job["width"], height / job["height"])
        return max(1, round(job["width"] * part)), max(1, round(job["height"] * part))
    part = min(1.0, job["width"] / width, job["height"] / height)
    return max(1, round(width * part)), max(1, round(height * part))


def _smaller(image: Image.Image, job: dict[str, Any]) -> Image.Image:
    box = _box(image.size, job)
    if job["crop"]:
        return ImageOps.fit(image, box, Image.Resampling.LANCZOS)
    return image.resize(box, Image.Resampling.LANCZOS)


def _still(image: Image.Image, job: dict[str, Any]) -> dict[str, Any]:
    image.seek(0)
    # JPEGs are decoded at half, a quarter … of their size where that is enough.
    image.draft("RGB", (2 * job["width"], 2 * job["height"]))
    clear = image.has_transparency_data
    whole = ImageOps.exif_transpose(image).convert("RGBA" if clear else "RGB")
    small = _smaller(whole, job)
    if clear:
        small.save(job["target"], "PNG", optimize=True)
        return {"type": "image/png"}
    small.save(job["target"], "JPEG", quality=85, optimize=True)
    return {"type": "image/jpeg"}


def _animation(image: Image.Image, job: dict[str, Any], max_pixels: int) -> dict[str, Any]:
    frames, durations = [], []
    box = _box(image.size, job)
    for number, frame in enumerate(ImageSequence.Iterator(image)):
        # Each frame is decoded whole and kept small.
        if number >= _MAX_FRAMES or (number + 1) * box[0] * box[1] > max_pixels:
            raise _TooLargeError
        frames.append(_smaller(frame.convert("RGBA"), job))
        durations.append(max(20, int(frame.info.get("duration") or 100)))
    frames[0].save(
        job["target"], "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=80
    )
    return {"type": "image/webp"}


if __name__ == "__main__":
    main()
