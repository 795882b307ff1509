"""What a prediction gives back: `Results` with `boxes` and `masks`, as an Ultralytics user knows them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mobilesam.errors import UnsupportedError
from mobilesam.front.pictures import Pictures
from mobilesam.front.result_files import ResultFiles
from mobilesam.front.result_items import Boxes, Masks, OnDevice, as_rows, boxes_of, masks_of
from mobilesam.geometry import rle as run_lengths
from mobilesam.geometry.masks import to_numpy
from mobilesam.geometry.polygons import parts


class Results(Pictures, ResultFiles, OnDevice):
    """The objects found in one image.

    Attributes:
        orig_img: (H, W, 3) uint8 BGR.
        orig_shape: (H, W).
        path: of the image; "image0.jpg" and so on for images in memory.
        names: a name for each value of `boxes.cls`.
        save_dir: the folder that `predict` wrote to; None where it wrote nothing.
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
        self.save_dir: str | None = None
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

    def __repr__(self) -> str:
        height, width = self.orig_shape
        return f"Results({self.path!r}, {width}x{height}, {self.verbose()})"

    def to(self, *args: Any, **kwargs: Any) -> "Results":
        """Return a copy as `torch.Tensor.to` makes it."""
        return self._with(self.boxes.to(*args, **kwargs), self.masks.to(*args, **kwargs))

    def numpy(self) -> "Results":
        """Return a copy as arrays."""
        return self._with(self.boxes.numpy(), self.masks.numpy())

    def new(self) -> "Results":
        """Return a result of the same image without objects."""
        return self[:0]

    def update(self, boxes: Any = None, masks: Any = None, **others: Any) -> None:
        """Put other boxes, masks or both in place of those that are here. There must be as many of both.

        What was known of the former masks, `low_res_logits` and `mask_quality`, goes with them.

        Args:
            boxes: (N, 6) x1, y1, x2, y2, score, class, cut off at the edges of the image; a tensor or an array.
            masks: (N, H, W) of the image's size, 0 where the object is not; a tensor or an array.
            **others: what Ultralytics' results of other tasks have, such as `probs`; None.

        Raises:
            UnsupportedError: one of the others.
            ValueError: another shape, or not as many boxes as masks.
        """
        if unsupported := [name for name, value in others.items() if value is not None]:
            raise UnsupportedError(
                f"update() must be given boxes or masks, got {', '.join(unsupported)}. Leave it out."
            )
        new_boxes = self.boxes if boxes is None else boxes_of(boxes, self.orig_shape)
        new_masks = self.masks if masks is None else masks_of(masks, self.orig_shape)
        if len(new_boxes) != len(new_masks):
            raise ValueError(
                f"boxes and masks must be as many, got {len(new_boxes)} and {len(new_masks)}. Give both to update()."
            )
        self.boxes, self.masks = new_boxes, new_masks
        self.names = {int(c): str(int(c)) for c in to_numpy(new_boxes.cls)} | self.names
        if masks is not None:
            self.low_res_logits, self.mask_quality = None, np.full(len(new_masks), np.nan)

    def verbose(self) -> str:
        """Return one line: how many masks, and their scores."""
        scores = ", ".join(f"{score:.2f}" for score in to_numpy(self.boxes.conf)[:5])
        more = ", ..." if len(self) > 5 else ""
        return f"{len(self)} mask{'s' * (len(self) != 1)}" + (f" with scores {scores}{more}" if len(self) else "")

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
        results = Results(self.orig_img, self.path, self.names, boxes, masks, **known)
        results.save_dir = self.save_dir
        return results
