"""Pixels from files, videos, arrays, PIL images and tensors: always (H, W, 3) uint8 RGB, the right way up."""

from mobilesam.images.files import IMAGE_SUFFIXES, find_files, image_size, is_one_image, iter_images, read_image
from mobilesam.images.pixels import to_rgb
from mobilesam.images.video import VIDEO_SUFFIXES, VideoFrames, frames_per_second
