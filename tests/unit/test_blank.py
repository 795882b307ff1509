"""What is skipped where an image does not show: the same maps as without, from fewer rows and columns."""

import pytest
import torch
from torch.nn import functional as F

from mobilesam.fast import blank
from mobilesam.fast.blank import Part, SkipBlank, image_size

SIDE, WINDOW = 256, 7


def convolution(channels, out, stride, generator):
    weight = torch.randn(out, channels, 3, 3, generator=generator, dtype=torch.double) / 5
    bias = torch.randn(out, generator=generator, dtype=torch.double)
    return lambda x: F.gelu(F.conv2d(x, weight, bias, stride, padding=1))


def chain(*steps):
    def run(x):
        for step in steps:
            x = step(x)
        return x

    return run


def windows(channels, generator):
    """Something in which all of a window, and what pads it, counts, and then a convolution; it writes to its input."""
    convolve = convolution(channels, channels, 1, generator)

    def run(x):
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % WINDOW, 0, -height % WINDOW))
        means = F.avg_pool2d(padded, WINDOW).repeat_interleave(WINDOW, 2).repeat_interleave(WINDOW, 3)
        x += means[..., :height, :width]
        return convolve(x)

    return run


@pytest.fixture(scope="module")
def steps():
    generator = torch.Generator().manual_seed(0)
    strides = (2, 2, 1, 1, 2)
    stem = chain(*(convolution(4 if i else 3, 4, stride, generator) for i, stride in enumerate(strides)))
    return [stem, windows(4, generator), windows(4, generator)]


def parts(steps, seen):
    def watched(step):
        def run(x):
            seen.append(x.shape[-2:])
            return step(x)

        return run

    stem, *others = map(watched, steps)
    return [Part(stem, 8, shows=2, spoilt=2), *(Part(step, 1, shows=1, spoilt=1, window=WINDOW) for step in others)]


@pytest.mark.parametrize(
    "size", [(171, 256), (256, 100), (1, 1), (64, 63), (57, 113), (8, 248), (255, 256), (256, 256)]
)
@pytest.mark.parametrize("rounded", [1, 64])
def test_the_same_as_without(steps, size, rounded, monkeypatch):
    monkeypatch.setattr(blank, "ROUNDED", rounded)
    pixels = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.double)
    pixels[:, :, : size[0], : size[1]] = torch.randn(
        1, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.double
    )
    skipping = SkipBlank(parts(steps, []))
    for _ in range(2):  # what is kept for the second image is not what the first made of it
        torch.testing.assert_close(skipping(pixels.clone()), chain(*steps)(pixels.clone()), rtol=0, atol=1e-12)


def test_a_photograph_of_3_to_2_takes_less_than_three_quarters_of_the_first_maps(steps):
    seen, pixels = [], torch.zeros(1, 3, 1024, 1024, dtype=torch.double)
    pixels[:, :, :683] = 1
    skipping = SkipBlank(parts(steps, seen))
    skipping(pixels)
    blanks, image = seen[:3], seen[3:]
    assert blanks == [(1024, 1024), (128, 128), (128, 128)]
    # 683 rows count as 704, 88 of 8 pixels; two more show the image, and two more are spoilt at the end of the margin.
    # Windows of 7 that begin below 90 and, behind the convolution, below 92: 91 and 98 rows, and one window of margin.
    assert image == [(736, 1024), (98, 128), (105, 128)]


@pytest.mark.parametrize(("rows", "columns"), [([], []), ([0], [5]), ([3, 9], [7, 2]), ([15], [15])])
def test_the_size_is_that_of_what_is_not_zero(rows, columns):
    pixels = torch.zeros(1, 3, 16, 16)
    for channel, (row, column) in enumerate(zip(rows, columns, strict=True)):
        pixels[0, channel, row, column] = -0.1
    assert image_size(pixels) == (max(rows, default=-1) + 1, max(columns, default=-1) + 1)
