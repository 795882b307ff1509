"""Finding image files and reading them, within a limit of pixels."""

import glob
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from mobilesam.errors import ImageError
from mobilesam.images.pixels import array_to_rgb, spread_unit_floats, to_rgb
from mobilesam.images.video import VIDEO_SUFFIXES, VideoFrames

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".ppm", ".pgm")
EXIF_ORIENTATION = 274
_PILLOW = threading.Lock()


def read_image(path: str | Path, *, max_pixels: int | None = None) -> np.ndarray:
    """Read an image file.

    EXIF orientation is applied. Gray, palette, CMYK, 1-bit and alpha images become RGB, alpha being dropped. 16-bit
    images are shifted down from the smallest of 8, 10, 12, 14 and 16 bits that holds their brightest pixel, so that
    12-bit data in a 16-bit file is not black. Of several frames or pages the first is read.

    Args:
        max_pixels: a larger image is refused before it is unpacked (16-bit colour TIFF: after), because a small file
            can claim any size. Default: Pillow's limit, 179 million unless `PIL.Image.MAX_IMAGE_PIXELS` was changed.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the file is missing, empty, cut off, too large, or not an image.
    """
    array = _read(path, max_pixels)
    _check_size(path, array.shape[1::-1], max_pixels)
    return array


def image_size(path: str | Path) -> tuple[int, int]:
    """Return the size (H, W) that `read_image` would give, from the file's header where that says it."""
    try:
        with _open(path, max_pixels=sys.maxsize) as image:
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
            return image.size if turned else image.size[::-1]
    except Exception:  # the whole file may be readable all the same, or say better why it is not
        return read_image(path).shape[:2]


def iter_images(source: Any, *, array_format: str = "BGR", vid_stride: int = 1) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the images of a source, one at a time: the path, or "image0.jpg", ... in memory, and (H, W, 3) uint8 RGB.

    Args:
        source: a path, a folder (its images, by name), a glob pattern, a video, an image as `to_rgb` takes it, or a
            list of these.
        array_format: the order of the channels of arrays.
        vid_stride: read every so many frames of a video.
    """
    for number, item in enumerate(_flatten(source)):
        if isinstance(item, (str, Path)) and Path(item).suffix.lower() in VIDEO_SUFFIXES:
            yield from ((f"{item}#{frame}", pixels) for frame, pixels in VideoFrames(item).every(vid_stride))
        elif isinstance(item, (str, Path)):
            yield str(item), read_image(item)
        else:
            yield f"image{number}.jpg", to_rgb(item, array_format=array_format)


def is_one_image(source: Any) -> bool:
    """Whether a source is one image, and not a list, folder, pattern or video."""
    if not isinstance(source, (str, Path)):
        return not isinstance(source, (list, tuple))
    path = Path(source)
    pattern = not path.exists() and glob.has_magic(str(source))
    return not (path.is_dir() or pattern or path.suffix.lower() in VIDEO_SUFFIXES)


def _flatten(source: Any) -> Iterator[Any]:
    """Yield paths of files and images in memory."""
    if source is None:
        raise ImageError("source must be an image, a path, a folder or a list of them, got None.")
    if isinstance(source, (list, tuple)):
        for item in source:
            yield from _flatten(item)
    elif isinstance(source, (str, Path)):
        yield from find_files(source)
    else:
        yield source


def find_files(source: str | Path) -> Iterator[str]:
    """Yield the paths of a file, of a folder's images by name, or of a glob pattern's; an `ImageError` for none."""
    source = str(source)
    path = Path(source)
    if source.startswith(("http://", "https://", "rtsp://")):
        raise ImageError(f"source must be on disk, got {source!r}. Download it, or pass its images as arrays.")
    if path.is_dir():
        found = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    elif not path.exists() and glob.has_magic(source):
        found = sorted(p for p in glob.glob(source, recursive=True) if Path(p).suffix.lower() in IMAGE_SUFFIXES)
    else:
        found = [source]  # a file; if it is missing, reading it says so
    if not found:
        raise ImageError(f"source must hold images ({', '.join(IMAGE_SUFFIXES)}), got {source!r} with none.")
    yield from found


def _read(path: str | Path, max_pixels: int | None) -> np.ndarray:
    try:
        if not stat.S_ISREG(mode := os.stat(path).st_mode) and not stat.S_ISDIR(mode):
            raise ImageError(f"image must be a file, got {str(path)!r}, which is a pipe or device. Check the path.")
        with _open(path, max_pixels) as image:
            _check_size(path, image.size, max_pixels)
            if _is_deep_colour(image):
                return _read_with_opencv(path, image.getexif().get(EXIF_ORIENTATION, 1))
            _load_whole(image)
            return to_rgb(image)
    except FileNotFoundError as error:
        raise ImageError(f"image must be a file, got {str(path)!r}, which does not exist. Check the path.") from error
    except (UnidentifiedImageError, ImportError):
        # 16-bit colour TIFF, for one. Where ultralytics is imported, its `Image.open` wants another package instead.
        return _read_with_opencv(path, orientation=1)
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
        raise ImageError(
            f"image must be a whole image file, got {str(path)!r}, which cannot be read ({error}). Fetch it again."
        ) from error


def _open(path: str | Path, max_pixels: int | None) -> Image.Image:
    """Read the header of an image file; where a limit is given, Pillow's own does not count."""
    with _PILLOW:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = limit if max_pixels is None else None
        try:
            return Image.open(path)
        except Image.DecompressionBombError as error:
            raise _too_large(path, 2 * limit, f"with more ({error})", "allow it with") from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _load_whole(image: Image.Image) -> None:
    """Decode all pixels; a file that is cut off is an error even if somebody told Pillow to accept such files."""
    with _PILLOW:  # the setting is the whole process's: who only read it elsewhere could take another thread's for it
        if lenient := ImageFile.LOAD_TRUNCATED_IMAGES:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
            try:
                image.load()
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = lenient
    image.load()


def _check_size(path: str | Path, size: tuple[int, ...], max_pixels: int | None) -> None:
    if max_pixels is not None and size[0] * size[1] > max_pixels:
        raise _too_large(path, max_pixels, f"of {size[0]} x {size[1]}", "raise")


def _too_large(path: str | Path, limit: int, found: str, remedy: str) -> ImageError:
    return ImageError(
        f"image must have {limit:,} pixels at most, got {str(path)!r} {found}. "
        f"If the file is meant to be so large, {remedy} max_pixels."
    )


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether this is 16-bit colour, of which Pillow would keep the high byte only."""
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in image.tile)


def _read_with_opencv(path: str | Path, orientation: int) -> np.ndarray:
    import cv2  # late: the rest, and with it `mobilesam.runtime`, does without

    data = np.fromfile(path, dtype=np.uint8)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    array = cv2.imdecode(data, flags) if data.size else None
    if array is None:
        raise ImageError(
            f"image must be an image file, got {str(path)!r} of {data.size} bytes, which is none that Pillow or OpenCV "
            "knows. Convert it, fetch it again, or remove it."
        )
    if data[:4].tobytes() in (b"II*\0", b"MM\0*"):
        orientation = 1  # OpenCV turns a TIFF whatever the flags say
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    image = Image.fromarray(array_to_rgb(spread_unit_floats(array)[..., ::-1]))
    image.info["exif"] = exif.tobytes()
    return to_rgb(image)
