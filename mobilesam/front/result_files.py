"""Files and tables of results."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mobilesam.geometry.masks import to_numpy
from mobilesam.geometry.polygons import outline
from mobilesam.images import VIDEO_SUFFIXES
from mobilesam.packages import require

# By how much a crop is larger than its box, as Ultralytics cuts it.
CROP_GAIN, CROP_PIXELS = 1.02, 10


class ResultFiles:
    """The half of `Results` that writes."""

    @property
    def frame(self) -> tuple[str, int] | None:
        """The path of the video that the image is of, and its number there, from 1; None of another image."""
        video, _, number = self.path.rpartition("#")
        is_frame = number.isdigit() and Path(video).suffix.lower() in VIDEO_SUFFIXES
        return (video, int(number)) if is_frame else None

    @property
    def stem(self) -> str:
        """What files about the image are called after: its name without suffix, and the number of a video's frame."""
        if self.frame is None:
            return Path(self.path).stem
        video, number = self.frame
        return f"{Path(video).stem}_{number}"

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return plain data: one dict an object with name, class, confidence, box and segments.

        Args:
            normalize: fractions of the image instead of pixels.
            decimals: to round to.
        """
        corners = to_numpy(self.boxes.xyxyn if normalize else self.boxes.xyxy)
        polygons = self.masks.xyn if normalize else self.masks.xy
        return [
            {
                "name": self.names[int(row[5])],
                "class": int(row[5]),
                "confidence": round(float(row[4]), decimals),
                "box": dict(zip(("x1", "y1", "x2", "y2"), _rounded(box, decimals), strict=True)),
                "segments": {"x": _rounded(polygon[:, 0], decimals), "y": _rounded(polygon[:, 1], decimals)},
            }
            for row, box, polygon in zip(to_numpy(self.boxes.data), corners, polygons, strict=True)
        ]

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return `summary` as JSON."""
        return json.dumps(self.summary(normalize, decimals), indent=2)

    def to_df(self, normalize: bool = False, decimals: int = 5) -> Any:
        """Return `summary` as a `polars.DataFrame`, a row an object.

        Raises:
            MissingPackageError: polars is not installed.
        """
        return require("polars").DataFrame(self.summary(normalize, decimals))

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return `summary` as CSV, a line an object, with box and segments as Python writes them."""
        text = io.StringIO()
        rows = self.summary(normalize, decimals)
        writer = csv.DictWriter(text, rows[0] if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def save_txt(self, txt_file: str | Path, save_conf: bool = False) -> str:
        """Append the objects to a YOLO segmentation file: a line of class and polygon in fractions of the image each.

        A line has one polygon: parts of a mask are joined by a bridge, holes are filled. An empty mask has no line.

        Args:
            txt_file: path of the text file.
            save_conf: write the score at the end of each line.

        Returns:
            The path.
        """
        lines = []
        for mask, row in zip(to_numpy(self.masks.data), to_numpy(self.boxes.data), strict=True):
            polygon = outline(mask) / np.float32(self.orig_shape[::-1])
            if len(polygon) >= 3:
                values = [f"{value:.6g}" for value in polygon.ravel()]
                lines.append(" ".join([str(int(row[5])), *values, *([f"{row[4]:.6g}"] if save_conf else [])]))
        with open(txt_file, "a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
        return str(txt_file)

    def save_crop(self, save_dir: str | Path, file_name: str | Path = "im.jpg") -> list[str]:
        """Write the part of the image around each box, 2% and 10 pixels larger, as a JPEG file.

        Args:
            save_dir: a folder; the name of each object is a folder in it. They are made.
            file_name: of the pictures. If it is there, the next free `im-2.jpg`, `im-3.jpg`, ... is taken.

        Returns:
            The paths.
        """
        paths = []
        for (x1, y1, x2, y2), c in zip(to_numpy(self.boxes.xyxy).tolist(), to_numpy(self.boxes.cls), strict=True):
            (left, right), (top, bottom) = _around(x1, x2, self.orig_shape[1]), _around(y1, y2, self.orig_shape[0])
            path = Path(save_dir) / self.names[int(c)] / Path(file_name).with_suffix(".jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            first, number = path, 1
            while path.exists():
                number += 1
                path = first.with_stem(f"{first.stem}-{number}")
            _write_image(path, self.orig_img[top:bottom, left:right], save_dir)
            paths.append(str(path))
        return paths

    def save_masks(self, folder: str | Path, stem: str) -> list[str]:
        """Write each mask as `<stem>_<number>.png`, 0 and 255, and return the paths."""
        paths = []
        for number, mask in enumerate(to_numpy(self.masks.data)):
            paths.append(str(Path(folder) / f"{stem}_{number}.png"))
            _write_image(paths[-1], mask.astype(np.uint8) * 255, folder)
        return paths

    def to_supervision(self) -> Any:
        """Return `supervision.Detections` with boxes, masks, scores and classes.

        Raises:
            MissingPackageError: supervision is not installed.
        """
        return require("supervision").Detections(
            xyxy=to_numpy(self.boxes.xyxy_exclusive),
            mask=to_numpy(self.masks.data),
            confidence=to_numpy(self.boxes.conf),
            class_id=to_numpy(self.boxes.cls).astype(int),
        )


def _around(first: float, last: float, size: int) -> tuple[int, int]:
    """Return the pixels, end exclusive, that a crop has along one axis of an image."""
    centre, half = (first + last) / 2, ((last - first) * CROP_GAIN + CROP_PIXELS) / 2
    return max(0, int(centre - half)), min(size, int(centre + half))


def _write_image(path: str | Path, pixels: np.ndarray, folder: str | Path) -> None:
    if not cv2.imwrite(str(path), pixels):
        raise OSError(f"folder must be one that can be written to, got {str(folder)!r}.")


def _rounded(values: np.ndarray, decimals: int) -> list[float]:
    return [round(float(value), decimals) for value in values]
