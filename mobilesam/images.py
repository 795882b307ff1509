"""Pixels from files, arrays, PIL images and tensors: always (H, W, 3) uint8 RGB, the right way up."""

import glob
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from mobilesam.errors import ImageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".ppm", ".pgm")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
BIT_DEPTHS = (8, 10, 12, 14, 16)
EXIF_ORIENTATION = 274
_OPENING = threading.Lock()


def read_image(path: str | Path, *, max_pixels: int | None = None) -> np.ndarray:
    """Read an image file.

    EXIF orientation is applied. Gray, palette, CMYK, 1-bit and alpha images become RGB, alpha being dropped. 16-bit
    images are shifted down from the smallest of 8, 10, 12, 14 and 16 bits that holds their brightest pixel, so that
    12-bit data in a 16-bit file is not black. Of several frames or pages the first is read.

    Args:
        path: of the file.
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
    """Return the size (H, W) that `read_image` would give, from the file's header where that says it.

    Raises:
        ImageError: the file is missing or not an image.
    """
    try:
        with _open(path, max_pixels=sys.maxsize) as image:
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
            return image.size if turned else image.size[::-1]
    except Exception:  # the whole file may be readable all the same, or say better why it is not
        return read_image(path).shape[:2]


def to_rgb(image: Any, *, array_format: str = "RGB") -> np.ndarray:
    """Convert an image in memory.

    Args:
        image: a PIL image (its EXIF orientation is applied), an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of
            uint8, bool, uint16 or floats in [0, 255], or a torch tensor (3, H, W), uint8 or floats in [0, 1].
        array_format: "RGB" or "BGR", the order of an array's channels. Tensors and PIL images are RGB.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        ImageError: another shape or type, an empty image, or floats whose range is not clear.
    """
    if array_format not in ("RGB", "BGR"):
        raise ImageError(f'array_format must be "RGB" or "BGR", got {array_format!r}.')
    if isinstance(image, Image.Image):
        return _pil_to_rgb(ImageOps.exif_transpose(image))
    if hasattr(image, "detach"):
        return _array_to_rgb(_tensor_to_array(image))
    array = np.asarray(image)
    channels = array.shape[2] if array.ndim == 3 else None
    if array.ndim not in (2, 3) or channels not in (None, 1, 3, 4) or 0 in array.shape:
        raise ImageError(
            f"image must have shape (H, W, 3), (H, W, 4), (H, W, 1) or (H, W), got {array.shape}. "
            "Channels come last; pass several images as a list."
        )
    if channels in (3, 4) and array_format == "BGR":
        array = array[..., 2::-1]
    return _array_to_rgb(array)


def iter_images(source: Any, *, array_format: str = "BGR") -> Iterator[tuple[str, np.ndarray]]:
    """Yield the images of a source, one at a time.

    Args:
        source: a path, a folder (its images, by name), a glob pattern, a video, an image as `to_rgb` takes it, or a
            list of these.
        array_format: the order of the channels of arrays.

    Yields:
        The path, or "image0.jpg", "image1.jpg", ... for images in memory, and (H, W, 3) uint8 RGB.

    Raises:
        ImageError: nothing is found, or an image cannot be read.
    """
    for number, item in enumerate(_flatten(source)):
        if isinstance(item, (str, Path)) and Path(item).suffix.lower() in VIDEO_SUFFIXES:
            yield from read_frames(item)
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


def read_frames(path: str | Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the frames of a video, one at a time: `<path>#<number>`, from 1, and (H, W, 3) uint8 RGB.

    Raises:
        ImageError: it is missing, or has no frame that OpenCV can read.
    """
    import cv2

    video, number = cv2.VideoCapture(str(path)), 0
    try:
        while True:
            there, frame = video.read()
            if not there:
                break
            number += 1
            yield f"{path}#{number}", np.ascontiguousarray(frame[..., ::-1])
    finally:
        video.release()
    if not number:
        raise ImageError(f"source must be a video that OpenCV can read, got {str(path)!r} without a frame.")


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
    """Yield the paths of a file, of a folder's images by name, or of a glob pattern's.

    Raises:
        ImageError: there is none.
    """
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
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"image must have {2 * Image.MAX_IMAGE_PIXELS:,} pixels at most, got {str(path)!r} with more ({error}). "
            "If the file is meant to be so large, allow it with max_pixels."
        ) from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
        raise ImageError(
            f"image must be a whole image file, got {str(path)!r}, which cannot be read ({error}). Fetch it again."
        ) from error


def _open(path: str | Path, max_pixels: int | None) -> Image.Image:
    """Read the header of an image file; where a limit is given, Pillow's own does not count."""
    with _OPENING:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = limit if max_pixels is None else None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(path: str | Path, size: tuple[int, ...], max_pixels: int | None) -> None:
    if max_pixels is not None and size[0] * size[1] > max_pixels:
        raise ImageError(
            f"image must have {max_pixels:,} pixels at most, got {str(path)!r} of {size[0]} x {size[1]}. "
            "If the file is meant to be so large, raise max_pixels."
        )


def _load_whole(image: Image.Image) -> None:
    """Decode all pixels; a file that is cut off is an error even if somebody told Pillow to accept such files."""
    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        image.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether this is 16-bit colour, of which Pillow would keep the high byte only."""
    rawmodes = [str(tile[3]) for tile in image.tile]
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in rawmode for rawmode in rawmodes)


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
    image = Image.fromarray(_array_to_rgb(_spread_unit_floats(array)[..., ::-1]))
    image.info["exif"] = exif.tobytes()
    return to_rgb(image)


def _pil_to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        return _array_to_rgb(np.asarray(image))
    if image.mode == "F":
        return _array_to_rgb(_spread_unit_floats(np.asarray(image)))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns if it must drop a palette's transparency in one step
    return np.array(image.convert("RGB"))


def _spread_unit_floats(array: np.ndarray) -> np.ndarray:
    """Bring the pixels of a float file from [0, 1] to [0, 255]; others stay as they are."""
    return array * 255 if array.dtype.kind == "f" and array.max() <= 1 else array


def _tensor_to_array(tensor: Any) -> np.ndarray:
    array = tensor.detach().cpu().numpy()
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or array.shape[0] != 3 or 0 in array.shape:
        raise ImageError(f"A tensor image must have shape (3, H, W), got {array.shape}. Permute its dimensions.")
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ImageError(
                "A float tensor image must be in [0, 1], got other values. Divide it by 255, do not normalise."
            )
        array = array * 255
    return array.transpose(1, 2, 0)


def _array_to_rgb(array: np.ndarray) -> np.ndarray:
    """Bring an array of any depth to 8 bits and three channels."""
    if array.ndim == 2:
        array = array[..., None]
    array = array[..., :1] if array.shape[-1] in (1, 2) else array[..., :3]
    array = _to_uint8(array)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= 2**16:
            raise ImageError(f"An integer image must be in [0, 65535], got {low} to {high}. Scale it to 8 bits.")
        bits = next(bits for bits in BIT_DEPTHS if high < 2**bits)
        return (array.astype(np.uint16) >> (bits - 8)).astype(np.uint8)
    if array.dtype.kind != "f":
        raise ImageError(f"image must be of integers or floats, got {array.dtype}. Pass uint8.")
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 255:
        raise ImageError("A float image must be in [0, 255], got other or NaN values. Pass uint8.")
    if array.max() <= 1:
        raise ImageError("A float image must be in [0, 255], got [0, 1]. Multiply it by 255, or pass uint8.")
    return array.round().astype(np.uint8)
