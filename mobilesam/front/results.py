"""What a prediction gives back: `Results` with `boxes` and `masks`, as an Ultralytics user knows them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mobilesam.errors import ImageError
from mobilesam.front.drawing import draw
from mobilesam.front.result_items import Boxes, Masks, OnDevice, as_rows
from mobilesam.geometry import rle as run_lengths
from mobilesam.geometry.masks import to_numpy
from mobilesam.geometry.polygons import outline, parts
from mobilesam.images import VIDEO_SUFFIXES
from mobilesam.packages import require


class Results(OnDevice):
    """The objects found in one image.

    Attributes:
        orig_img: (H, W, 3) uint8 BGR.
        orig_shape: (H, W).
        path: of the image; "image0.jpg" and so on for images in memory.
        names: a name for each value of `boxes.cls`.
        boxes: `Boxes`.
        masks: `Masks`.
        speed: milliseconds for `preprocess` (reading), `inference` and `postprocess`.
        mask_quality: (N,) float64, the IoU with a person's mask that is to be expected; NaN where it is not known.
        low_res_logits: (N, 256, 256) float32 array; `low_res_logits[i]` can be a mask prompt of the next call. None
            for masks of everything.
    """

    probs = keypoints = obb = None

    def __init__(
        self,
        orig_img: np.ndarray,
        path: str,
        names: dict[int, str],
        boxes: Boxes,
        masks: Masks,
        *,
        speed: dict[str, float] | None = None,
        low_res_logits: np.ndarray | None = None,
        mask_quality: Sequence[float | None] | np.ndarray | None = None,
    ):
        self.orig_img = orig_img
        self.orig_shape = orig_img.shape[:2]
        self.path = path
        self.names = names
        self.boxes = boxes
        self.masks = masks
        self.speed = speed or {}
        self.low_res_logits = low_res_logits
        quality = [None] * len(boxes) if mask_quality is None else mask_quality
        self.mask_quality = np.array(quality, dtype=np.float64)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> "Results":
        rows = as_rows(index)
        logits = self.low_res_logits
        if logits is not None:
            logits = logits[to_numpy(rows)]
        return self._with(self.boxes[rows], self.masks[rows], logits, self.mask_quality[to_numpy(rows)])

    def __iter__(self) -> Iterator["Results"]:
        return (self[i] for i in range(len(self)))

    @property
    def stem(self) -> str:
        """What files about the image are called after: its name without suffix, and the number of a video's frame."""
        video, _, frame = self.path.rpartition("#")
        if frame.isdigit() and Path(video).suffix.lower() in VIDEO_SUFFIXES:
            return f"{Path(video).stem}_{frame}"
        return Path(self.path).stem

    def __repr__(self) -> str:
        height, width = self.orig_shape
        return f"Results({self.path!r}, {width}x{height}, {self.verbose()})"

    def to(self, *args: Any, **kwargs: Any) -> "Results":
        """Return a copy as `torch.Tensor.to` makes it."""
        return self._with(self.boxes.to(*args, **kwargs), self.masks.to(*args, **kwargs))

    def numpy(self) -> "Results":
        """Return a copy as arrays."""
        return self._with(self.boxes.numpy(), self.masks.numpy())

    def verbose(self) -> str:
        """Return one line: how many masks, and their scores."""
        scores = ", ".join(f"{score:.2f}" for score in to_numpy(self.boxes.conf)[:5])
        more = ", ..." if len(self) > 5 else ""
        return f"{len(self)} mask{'s' * (len(self) != 1)}" + (f" with scores {scores}{more}" if len(self) else "")

    def plot(
        self,
        *,
        masks: bool = True,
        boxes: bool = True,
        labels: bool = True,
        conf: bool = True,
        line_width: int | None = None,
        img: np.ndarray | None = None,
    ) -> np.ndarray:
        """Draw the masks on the image.

        Args:
            masks: draw them, translucent, with their outline.
            boxes: draw the boxes.
            labels: write a name on each.
            conf: write the score as well.
            line_width: in pixels. Default: by the size of the image.
            img: (H, W, 3) uint8 BGR to draw on. Default: the image.

        Returns:
            (H, W, 3) uint8 BGR, a new array.
        """
        names = [self.names[int(c)] for c in to_numpy(self.boxes.cls)]
        scores = [f" {float(score):.2f}" if conf else "" for score in to_numpy(self.boxes.conf)]
        return draw(
            self.orig_img if img is None else img,
            to_numpy(self.masks.data) if masks else None,
            to_numpy(self.boxes.xyxy),
            [name + score for name, score in zip(names, scores, strict=True)] if labels else None,
            with_boxes=boxes,
            line_width=line_width,
        )

    def save(self, filename: str | Path | None = None, **plot_options: Any) -> str:
        """Write `plot()` to an image file.

        Args:
            filename: Default: `results_<name of the image>` in the current folder.
            **plot_options: for `plot`.

        Returns:
            The path.
        """
        filename = str(filename or f"results_{self.stem}.jpg")
        if not cv2.haveImageWriter(filename):
            raise ImageError(f"filename must end in .png, .jpg or another image format's suffix, got {filename!r}.")
        if not cv2.imwrite(filename, self.plot(**plot_options)):
            raise OSError(f"filename must be in a folder that can be written to, got {filename!r}.")
        return filename

    def show(self, **plot_options: Any) -> None:
        """Open `plot()` in the system's image viewer."""
        from PIL import Image

        Image.fromarray(self.plot(**plot_options)[..., ::-1]).show()

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

    def save_txt(self, path: str | Path, save_conf: bool = False) -> str:
        """Append the objects to a YOLO segmentation file: a line of class and polygon in fractions of the image each.

        A line has one polygon: parts of a mask are joined by a bridge, holes are filled. An empty mask has no line.

        Args:
            path: of the text file.
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
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
        return str(path)

    def save_masks(self, folder: str | Path, stem: str) -> list[str]:
        """Write each mask as `<stem>_<number>.png`, 0 and 255, and return the paths."""
        paths = []
        for number, mask in enumerate(to_numpy(self.masks.data)):
            paths.append(str(Path(folder) / f"{stem}_{number}.png"))
            if not cv2.imwrite(paths[-1], mask.astype(np.uint8) * 255):
                raise OSError(f"folder must be one that can be written to, got {str(folder)!r}.")
        return paths

    def coco(self) -> list[dict[str, Any]]:
        """Return a COCO annotation an object, without ids: run lengths, area, tight box [x, y, w, h], score."""
        rows = []
        for rle, box, score in zip(self.rle(), self.boxes.xyxy_exclusive, self.boxes.conf, strict=True):
            x0, y0, x1, y1 = (float(v) for v in box)
            area = run_lengths.area(rle)
            bbox = [x0, y0, x1 - x0, y1 - y0] if area else [x0, y0, 0.0, 0.0]
            row = {"category_id": 1, "segmentation": rle, "area": area, "bbox": bbox, "iscrowd": 0}
            rows.append(row | {"score": float(score)})
        return rows

    def rle(self) -> list[dict[str, Any]]:
        """Return each mask as COCO run lengths, `{"size": [H, W], "counts": text}`, as pycocotools takes them."""
        return [run_lengths.compress(run_lengths.encode(mask)) for mask in to_numpy(self.masks.data)]

    def polygons(self) -> list[list[dict[str, Any]]]:
        """Return the parts of each mask: `{"outline": (K, 2), "holes": [(K, 2), ...]}`, pixels of the image."""
        return [parts(mask) for mask in to_numpy(self.masks.data)]

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

    def _with(
        self,
        boxes: Boxes,
        masks: Masks,
        low_res_logits: np.ndarray | None = None,
        mask_quality: np.ndarray | None = None,
    ) -> "Results":
        logits = self.low_res_logits if low_res_logits is None else low_res_logits
        quality = self.mask_quality if mask_quality is None else mask_quality
        known = {"speed": self.speed, "low_res_logits": logits, "mask_quality": quality}
        return Results(self.orig_img, self.path, self.names, boxes, masks, **known)


def _rounded(values: np.ndarray, decimals: int) -> list[float]:
    return [round(float(value), decimals) for value in values]
