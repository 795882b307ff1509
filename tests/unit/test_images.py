import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageFile

from mobilesam import ImageError
from mobilesam.images import iter_images, read_image, to_rgb

COLOUR = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
GRAY = COLOUR[..., 0]


def as_rgb(gray):
    return np.repeat(gray[..., None], 3, axis=2)


def save(tmp_path, name, image, **kwargs):
    path = tmp_path / name
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **kwargs)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    turned = {
        1: COLOUR,
        2: COLOUR[:, ::-1],
        3: COLOUR[::-1, ::-1],
        4: COLOUR[::-1],
        5: COLOUR.transpose(1, 0, 2),
        6: np.rot90(COLOUR, -1),
        7: COLOUR[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(COLOUR),
    }
    exif = Image.Exif()
    exif[274] = orientation
    assert np.array_equal(read_image(save(tmp_path, "x.png", COLOUR, exif=exif)), turned[orientation])


MODES = {
    "rgb.png": (Image.fromarray(COLOUR), COLOUR),
    "gray.png": (Image.fromarray(GRAY), as_rgb(GRAY)),
    "rgba.png": (Image.fromarray(np.dstack([COLOUR, GRAY])), COLOUR),
    "la.png": (Image.fromarray(np.dstack([GRAY, GRAY])), as_rgb(GRAY)),
    "one-bit.png": (Image.fromarray(GRAY > 100), as_rgb(((GRAY > 100) * 255).astype(np.uint8))),
    "palette.png": (Image.fromarray(GRAY // 64).convert("P"), as_rgb(GRAY // 64)),
    "16-bit.png": (Image.fromarray(GRAY.astype(np.uint16) * 257), as_rgb(GRAY)),
    "16-bit.tif": (Image.fromarray(GRAY.astype(np.uint16) * 257), as_rgb(GRAY)),
    "12-bit.png": (Image.fromarray(GRAY.astype(np.uint16) * 16), as_rgb(GRAY)),
    "float01.tif": (Image.fromarray(GRAY.astype(np.float32) / 255), as_rgb(GRAY)),
    "float255.tif": (Image.fromarray(GRAY.astype(np.float32)), as_rgb(GRAY)),
}
MODES["cmyk.tif"] = (
    Image.merge("CMYK", [Image.fromarray(c) for c in (*np.moveaxis(255 - COLOUR, 2, 0), GRAY * 0)]),
    COLOUR,
)


@pytest.mark.parametrize("name", MODES)
def test_every_mode_is_read_rightly(tmp_path, name):
    picture, expected = MODES[name]
    read = read_image(save(tmp_path, name, picture))
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    assert np.array_equal(read, expected)


@pytest.mark.parametrize("factor", [1, 16, 257])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_colour_keeps_its_low_bits(tmp_path, suffix, factor):
    """Pillow alone keeps the high byte of such files, which for 12-bit data is nearly black."""
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), COLOUR[..., ::-1].astype(np.uint16) * factor)
    assert np.array_equal(read_image(path), COLOUR)


def test_16_bit_colour_is_turned_upright(tmp_path):
    """OpenCV turns a TIFF by itself and a PNG not; both must be turned once."""
    deep = COLOUR[..., ::-1].astype(np.uint16) * 257
    rgb = np.ascontiguousarray(deep[..., ::-1])
    tifffile.imwrite(tmp_path / "deep.tif", rgb, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(read_image(tmp_path / "deep.tif"), np.rot90(COLOUR, -1))

    png, exif = cv2.imencode(".png", deep)[1].tobytes(), Image.Exif()
    exif[274] = 6
    block = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(block) - 4) + block + struct.pack(">I", zlib.crc32(block))
    (tmp_path / "deep.png").write_bytes(png[:33] + chunk + png[33:])
    assert np.array_equal(read_image(tmp_path / "deep.png"), np.rot90(COLOUR, -1))


@pytest.mark.parametrize("lenient", [False, True])
def test_a_truncated_file_is_an_error(tmp_path, monkeypatch, lenient):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    big = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8))
    path = save(tmp_path, "x.jpg", big)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ImageError, match=r"x\.jpg.*truncated"):
        read_image(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is lenient


@pytest.mark.parametrize(("content", "text"), [(None, "does not exist"), (b"", "none that"), (b"hello", "none that")])
def test_what_is_no_image_is_named(tmp_path, content, text):
    path = tmp_path / "x.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"x\.jpg.*{text}"):
        read_image(path)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (GRAY, as_rgb(GRAY)),
        (GRAY[..., None], as_rgb(GRAY)),
        (COLOUR, COLOUR),
        (np.dstack([COLOUR, GRAY]), COLOUR),
        (COLOUR.astype(np.uint16) * 257, COLOUR),
        (COLOUR.astype(np.float32), COLOUR),
        (torch.from_numpy(COLOUR).permute(2, 0, 1), COLOUR),
        (Image.fromarray(COLOUR), COLOUR),
    ],
)
def test_images_in_memory(image, expected):
    assert np.array_equal(to_rgb(image), expected)


def test_float_tensors_are_in_0_to_1():
    tensor = torch.from_numpy(COLOUR).permute(2, 0, 1) / 255
    assert np.abs(to_rgb(tensor).astype(int) - COLOUR).max() <= 1
    with pytest.raises(ImageError, match="Divide it by 255"):
        to_rgb(tensor * 255)


@pytest.mark.parametrize("alpha", [False, True])
def test_bgr_is_turned(alpha):
    bgr = COLOUR[..., ::-1]
    assert np.array_equal(to_rgb(np.dstack([bgr, GRAY]) if alpha else bgr, array_format="BGR"), COLOUR)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (COLOUR / 255, "Multiply it by 255"),
        (COLOUR.astype(float) * np.nan, "NaN"),
        (np.zeros((0, 5, 3), np.uint8), r"got \(0, 5, 3\)"),
        (np.zeros((3, 5, 7), np.uint8), "Channels come last"),
        (np.zeros((2, 3, 5, 3), np.uint8), "as a list"),
        ("not an array", "shape"),
    ],
)
def test_a_wrong_array_says_what_was_expected(image, text):
    with pytest.raises(ImageError, match=text):
        to_rgb(image)


def test_the_limit_of_pixels_is_a_setting(tmp_path, monkeypatch):
    path = save(tmp_path, "large.png", np.zeros((40, 50, 3), np.uint8))
    assert read_image(path, max_pixels=2000).shape == (40, 50, 3)
    with pytest.raises(ImageError, match=r"1,999 pixels at most, got .* of 50 x 40.*raise max_pixels"):
        read_image(path, max_pixels=1999)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    with pytest.raises(ImageError, match=r"1,800 pixels at most, got .*allow it with max_pixels"):
        read_image(path)
    assert read_image(path, max_pixels=2000).shape == (40, 50, 3)
    assert Image.MAX_IMAGE_PIXELS == 900


def test_what_only_opencv_reads_is_limited_as_well(tmp_path):
    path = tmp_path / "deep.tiff"
    tifffile.imwrite(path, np.zeros((40, 50, 3), np.uint16), photometric="rgb")
    assert read_image(path, max_pixels=2000).shape == (40, 50, 3)
    with pytest.raises(ImageError, match="1,999 pixels at most"):
        read_image(path, max_pixels=1999)


def test_sources(tmp_path):
    for name in ("b.png", "a.png"):
        save(tmp_path, name, COLOUR)
    (tmp_path / "note.txt").touch()
    names = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert [name for name, _ in iter_images(tmp_path)] == names
    assert [name for name, _ in iter_images(str(tmp_path / "*.png"))] == names
    mixed = list(iter_images([names[1], Image.fromarray(COLOUR), COLOUR[..., ::-1]]))
    assert [name for name, _ in mixed] == [names[1], "image1.jpg", "image2.jpg"]
    assert all(np.array_equal(image, COLOUR) for _, image in mixed)


@pytest.mark.parametrize("source", [None, "nothing/*.jpg", "video.mp4", "https://example.org/x.jpg", "missing.jpg"])
def test_a_source_without_images_says_so(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=r"source|image must be a file"):
        list(iter_images(source))


def test_settings_of_pillow_are_the_same_after_many_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    large = save(tmp_path, "large.png", np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    cut = tmp_path / "cut.png"
    cut.write_bytes(large.read_bytes()[:-2000])

    def read(number):
        path, max_pixels = [(large, 2000), (large, None), (cut, 2000)][number % 3]
        try:
            return read_image(path, max_pixels=max_pixels).shape
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(300)))
    assert set(found[::3]) == {(40, 50, 3)}
    assert all("1,800 pixels at most" in text for text in found[1::3])
    assert all("must be a whole image file" in text for text in found[2::3])
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == (900, True)
