"""One call of `predict`: image after image, with callbacks, times and files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mobilesam.front.options import PredictOptions
from mobilesam.front.results import Boxes, Masks, Results
from mobilesam.front.run_folder import RunFolder
from mobilesam.geometry import MaskCrop
from mobilesam.geometry.boxes import last_inclusive

if TYPE_CHECKING:
    from mobilesam.front.model import MobileSAM

# When callbacks run: the first and the last once a call, the others once an image.
EVENTS = (
    "on_predict_start",
    "on_predict_batch_start",
    "on_predict_postprocess_end",
    "on_predict_batch_end",
    "on_predict_end",
)


@dataclass
class PredictRun:
    """What a callback is told of the call of `predict` that it is part of.

    Attributes:
        model: the `SAM`.
        args: the options of the call.
        batch: of one image: its path, the image (H, W, 3) uint8 BGR, and "", each in a list.
        results: of that image. What a callback puts here is what `predict` returns.
        save_dir: the folder that is written to; None before the first file.
    """

    model: MobileSAM
    args: PredictOptions
    batch: tuple[list[str], list[np.ndarray], list[str]] | None = None
    results: Iterable[Any] = ()
    save_dir: Path | None = None

    def stream(
        self,
        images: Iterable[tuple[str, np.ndarray]],
        finders: Iterable[Callable[[np.ndarray], list[MaskCrop]]],
    ) -> Iterator[Any]:
        """Yield the results of images (H, W, 3) uint8 RGB with their paths, each with what finds its masks."""
        folder = RunFolder(self.args)
        self._call("on_predict_start")
        start = time.perf_counter()
        try:
            for (path, image), find in zip(images, finders, strict=False):
                bgr = np.ascontiguousarray(image[..., ::-1])
                self.batch = [path], [bgr], [""]
                self._call("on_predict_batch_start")
                read = time.perf_counter()
                crops = find(image)
                found = time.perf_counter()
                result = self._result(path, bgr, crops)
                times = [
                    1000 * (after - before) for before, after in pairwise((start, read, found, time.perf_counter()))
                ]
                result.speed = dict(zip(("preprocess", "inference", "postprocess"), times, strict=True))
                self.results = [result]
                self._call("on_predict_postprocess_end")
                folder.write(result)
                self.save_dir = folder.path if folder.wanted else None
                self._call("on_predict_batch_end")
                yield from self.results
                start = time.perf_counter()
        finally:  # also where the caller stops, or an image cannot be used
            folder.close()
        self._call("on_predict_end")

    def _call(self, event: str) -> None:
        for callback in self.model.callbacks[event]:
            callback(self)

    def _result(self, path: str, bgr: np.ndarray, crops: list[MaskCrop]) -> Results:
        names = {index: str(index) for index in range(len(crops))}
        kept = self.args.kept([crop.iou_prediction for crop in crops])
        original_hw = bgr.shape[:2]
        masks = np.zeros((len(kept), *original_hw), dtype=bool)
        boxes = np.zeros((len(kept), 6), dtype=np.float32)
        for row, index in enumerate(kept):
            crop = crops[index]
            masks[row] = crop.full(original_hw)
            boxes[row] = *last_inclusive(crop.region), crop.iou_prediction, index
        logits = [crops[index].low_res_logits for index in kept]
        known = all(x is not None for x in logits)
        low_res_logits = np.array(logits, dtype=np.float32).reshape(-1, 256, 256) if known else None
        device = self.model.device
        boxes = Boxes(torch.from_numpy(boxes).to(device), original_hw)
        masks = Masks(torch.from_numpy(masks).to(device), original_hw)
        mask_quality = [crops[index].mask_quality for index in kept]
        return Results(bgr, path, names, boxes, masks, low_res_logits=low_res_logits, mask_quality=mask_quality)
