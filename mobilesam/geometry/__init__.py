"""Boxes, frames, masks, run lengths and polygons. What stands here needs neither torch nor OpenCV."""

from mobilesam.geometry import rle
from mobilesam.geometry.boxes import Region, clip_box, clip_region, snap_outward, tight_region, whole_region
from mobilesam.geometry.frames import ImageEmbedding
from mobilesam.geometry.masks import Crop, MaskCrop
