"""`SamAutomaticMaskGenerator`: masks of everything in an image, from a grid of points, or from a detector's boxes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from mobilesam.build_sam import before_training
from mobilesam.fast.backend import Backend
from mobilesam.geometry import MaskCrop, Region, tight_region, whole_region
from mobilesam.geometry import rle as run_lengths
from mobilesam.geometry.boxes import last_inclusive
from mobilesam.geometry.masks import crop_mask, region_above, tile_for
from mobilesam.images import to_rgb
from mobilesam.modeling import Sam
from mobilesam.predictor import PROMPTS_PER_CHUNK, ImageEmbedding, SamPredictor
from mobilesam.prompts import Prompt, check_inside, detector_boxes, make_prompts
from mobilesam.utils import amg

OUTPUT_MODES = {"binary_mask": run_lengths.decode, "uncompressed_rle": dict, "coco_rle": run_lengths.compress}


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mask on its way to a record. All in the original image; run lengths, because there can be thousands."""

    rle: dict[str, Any]
    box: list[int]  # around the mask, the last pixels inclusive; the crop's corner twice if it is empty
    predicted_iou: float
    stability_score: float
    point_coords: list[list[float]]  # it was prompted with
    crop_box: Region  # it was found in


class SamAutomaticMaskGenerator:
    """Segments everything in an image, with the original's arguments and records.

    Weights that were fine-tuned from the bundled ones leave the grid of points to these: what learnt from boxes is less
    sure of what a point finds, and the thresholds here would drop it.

    Args:
        model: a `Sam`, or a `SamPredictor` where its options are wanted: `SamPredictor(sam)` for the plain path,
            `SamPredictor(sam, precision="bf16")` for a faster one whose masks differ a little.
        points_per_side: the grid has this many points a side; None if `point_grids` are given.
        points_per_batch: points decoded at once on a GPU. A CPU takes a few at a time, which is faster there.
        pred_iou_thresh: masks whose predicted IoU is not above it are dropped.
        stability_score_thresh: masks whose stability score is below it are dropped.
        stability_score_offset: how far the two cuts of the stability score lie from the mask threshold.
        box_nms_thresh: of two masks whose boxes overlap by a higher IoU, the one with the lower predicted IoU goes.
        crop_n_layers: segment crops of the image as well: 4 in the first layer, 16 in the second, and so on.
        crop_nms_thresh: `box_nms_thresh` between crops, where masks of smaller crops come first.
        crop_overlap_ratio: how far the crops of the first layer overlap, as a part of the image's short side.
        crop_n_points_downscale_factor: the grid gets coarser by this factor with each layer.
        point_grids: instead of `points_per_side`, one (N, 2) array of xy in [0, 1] for the image and each layer.
        min_mask_region_area: holes and islands of fewer pixels are filled and removed.
        output_mode: "binary_mask", "uncompressed_rle" or "coco_rle".

    Raises:
        ValueError: an argument that does not fit.

    Source: the interface and the order of the filters of Segment Anything's `automatic_mask_generator.py`.
    """

    def __init__(
        self,
        model: Sam | SamPredictor,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
    ):
        if (points_per_side is None) == (point_grids is None):
            raise ValueError("Exactly one of points_per_side and point_grids must be given, got both or none.")
        if points_per_side is not None:
            scale = crop_n_points_downscale_factor
            point_grids = amg.build_all_layer_point_grids(points_per_side, crop_n_layers, scale)
        if len(point_grids) <= crop_n_layers:
            raise ValueError(f"point_grids must have {crop_n_layers + 1} grids, one a layer, got {len(point_grids)}.")
        if output_mode not in OUTPUT_MODES:
            raise ValueError(f"output_mode must be one of {', '.join(OUTPUT_MODES)}, got {output_mode!r}.")
        self.predictor = model if isinstance(model, SamPredictor) else SamPredictor(model, fast=True)
        self.point_grids = point_grids
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode

    def generate(self, image: np.ndarray, *, boxes: Any = None) -> list[dict[str, Any]]:
        """Segment everything, or the object in each box.

        Args:
            image: (H, W, 3) uint8 RGB, or what else `mobilesam.images.to_rgb` takes.
            boxes: (N, 4) xyxy pixels of a detector, or its result with `xyxy` or `boxes.xyxy`. Each gives one record,
                in order, and nothing is dropped.

        Returns:
            One dict a mask; an empty list if there is none.

            - `segmentation`: (H, W) bool, or a dict of run lengths
            - `area`: of the mask in pixels
            - `bbox`: [x, y, w, h] around it; as in the original `w` and `h` are one less than its columns and rows
            - `predicted_iou`: the model's own estimate of the mask's quality; can pass 1
            - `point_coords`: [[x, y]], the point that gave it; [] for a box
            - `stability_score`: IoU of the mask cut at logits above and below the threshold
            - `crop_box`: [x, y, w, h] of the part of the image it was found in

        Raises:
            ImageError: not an image.
            PromptError: a box that is wrong; its index is named.
        """
        encode = OUTPUT_MODES[self.output_mode]
        return [
            {
                "segmentation": encode(candidate.rle),
                "area": run_lengths.area(candidate.rle),
                "bbox": _xywh(candidate.box),
                "predicted_iou": candidate.predicted_iou,
                "point_coords": candidate.point_coords,
                "stability_score": candidate.stability_score,
                "crop_box": _xywh(candidate.crop_box),
            }
            for candidate in self._find(image, boxes)
        ]

    def generate_crops(self, image: np.ndarray, *, boxes: Any = None) -> list[MaskCrop]:
        """Do what `generate` does, and return each mask as its tight crop."""
        crops = []
        for found in self._find(image, boxes):
            mask = run_lengths.decode(found.rle)
            x0, y0, x1, y1 = region = tight_region(mask)
            crops.append(MaskCrop(region, mask[y0:y1, x0:x1].copy(), found.predicted_iou, found.stability_score))
        return crops

    @torch.no_grad()
    def _find(self, image: np.ndarray, boxes: Any) -> list[Candidate]:
        image = to_rgb(image)
        if boxes is not None:
            return self._find_in_boxes(image, boxes)
        crop_boxes, layers = amg.generate_crop_boxes(image.shape[:2], self.crop_n_layers, self.crop_overlap_ratio)
        found = []
        for (x0, y0, x1, y1), layer in zip(crop_boxes, layers, strict=True):
            if x0 < x1 and y0 < y1:  # in a tiny image some crops have no pixels
                found += self._find_in_crop(image, (x0, y0, x1, y1), self.point_grids[layer])
        if len(crop_boxes) > 1:  # masks of smaller crops first
            areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (candidate.crop_box for candidate in found)]
            found = _without_duplicates(found, [1 / area for area in areas], self.crop_nms_thresh)
        if self.min_mask_region_area > 0:  # masks that did not change first
            cleaned = [self._clean(candidate) for candidate in found]
            scores = [float(new is old) for new, old in zip(cleaned, found, strict=True)]
            found = _without_duplicates(cleaned, scores, max(self.box_nms_thresh, self.crop_nms_thresh))
        return found

    def _find_in_boxes(self, image: np.ndarray, boxes: Any) -> list[Candidate]:
        """Find one mask a box."""
        xyxy, original_hw = detector_boxes(boxes), image.shape[:2]
        prompts = make_prompts(boxes=boxes if xyxy is None else xyxy)
        check_inside(prompts, original_hw)
        if not prompts:
            return []
        [embedding] = self.predictor.encode_images([image])
        masks = self._masks(prompts, embedding, from_grid=False)
        found = [_candidate(crop, [], whole_region(original_hw), original_hw) for _, crop in masks]
        return [self._clean(candidate) for candidate in found] if self.min_mask_region_area > 0 else found

    def _find_in_crop(self, image: np.ndarray, crop_box: Region, grid: np.ndarray) -> list[Candidate]:
        """Find masks in a crop from a grid of points: good, stable, not cut off by the crop, each once."""
        x0, y0, x1, y1 = crop_box
        [embedding] = self.predictor.encode_images([image[y0:y1, x0:x1]])
        points = grid * [x1 - x0, y1 - y0]
        found = []
        for index, crop in self._masks(make_prompts(point_coords=points[:, None]), embedding, from_grid=True):
            box = torch.tensor([last_inclusive(crop.region)])
            if not amg.is_box_near_crop_edge(box, crop_box, whole_region(image.shape[:2])):
                point = (points[index] + [x0, y0]).tolist()
                found.append(_candidate(crop, [point], crop_box, image.shape[:2]))
        return _without_duplicates(found, [c.predicted_iou for c in found], self.box_nms_thresh)

    def _masks(
        self, prompts: Sequence[Prompt], image: ImageEmbedding, *, from_grid: bool
    ) -> Iterator[tuple[int, MaskCrop]]:
        """Yield, in order, the index of a prompt and a mask: a box has one, a point those good and stable of three."""
        predictor = self.predictor
        min_iou = self.pred_iou_thresh if from_grid and self.pred_iou_thresh > 0 else -np.inf
        min_stability = self.stability_score_thresh if from_grid else 0.0
        backend = self._grid_backend if from_grid else predictor.backend
        decode = backend.filtered_decoder(image.features)
        matrices = predictor._matrices(image)
        on_cpu = predictor.device.type == "cpu"
        size = min(self.points_per_batch, PROMPTS_PER_CHUNK) if on_cpu else self.points_per_batch
        for indices, chunk in amg.batch_iterator(size, range(len(prompts)), prompts):
            decoded = decode(predictor._embed(chunk, image), min_iou, multimask_output=from_grid)
            for index, (logits, ious) in zip(indices, decoded, strict=True):
                for low_res_logits, iou in zip(logits, ious.tolist(), strict=True):
                    crop = self._upscale(low_res_logits, matrices, iou)
                    # In float32, as the original compares: 19 of 20 pixels are stable at 0.95.
                    if np.float32(crop.stability_score) >= np.float32(min_stability):
                        yield index, crop

    @property
    def _grid_backend(self) -> Backend:
        if not self.predictor.model.fine_tuned:
            return self.predictor.backend
        self._before_training.sam.to(self.predictor.device)
        return self._before_training

    @cached_property
    def _before_training(self) -> Backend:
        used = self.predictor.backend
        return Backend(before_training(used.sam), fast=used.fast, precision=used.precision)

    def _upscale(self, low_res_logits: Tensor, matrices: tuple[Tensor, Tensor], iou_prediction: float) -> MaskCrop:
        """Upscale a mask only where it, or its lower cut, can be."""
        threshold, offset = self.predictor.model.mask_threshold, self.stability_score_offset
        region = region_above(low_res_logits, matrices, threshold - abs(offset))
        row0, column0, row1, column1 = tile = tile_for(matrices, region)
        part = low_res_logits[4 * row0 : 4 * row1, 4 * column0 : 4 * column1]
        return crop_mask(
            self.predictor._upscale(part, matrices, region, tile),
            region,
            mask_threshold=threshold,
            iou_prediction=iou_prediction,
            stability_offset=offset,
        )

    def _clean(self, candidate: Candidate) -> Candidate:
        """Fill small holes and remove small islands; the candidate itself if there are none."""
        mask, filled = amg.remove_small_regions(run_lengths.decode(candidate.rle), self.min_mask_region_area, "holes")
        mask, removed = amg.remove_small_regions(mask, self.min_mask_region_area, "islands")
        if not (filled or removed):
            return candidate
        return replace(candidate, rle=run_lengths.encode(mask), box=last_inclusive(tight_region(mask)))


def _candidate(crop: MaskCrop, point_coords: list, crop_box: Region, original_hw: tuple[int, int]) -> Candidate:
    """Move a mask from the crop it was found in to the original image."""
    x, y = crop_box[:2]
    box = [edge + offset for edge, offset in zip(last_inclusive(crop.region), (x, y, x, y), strict=True)]
    rle = run_lengths.encode(crop.mask, corner=(box[0], box[1]), size=original_hw)
    return Candidate(rle, box, crop.iou_prediction, crop.stability_score, point_coords, crop_box)


def _without_duplicates(candidates: list[Candidate], scores: list[float], iou_threshold: float) -> list[Candidate]:
    """Return candidates by falling score, without those whose boxes overlap an earlier one's too much."""
    if not candidates:
        return []
    boxes = torch.tensor([candidate.box for candidate in candidates], dtype=torch.float32)
    keep = batched_nms(boxes, torch.tensor(scores), torch.zeros(len(boxes)), iou_threshold)
    return [candidates[i] for i in keep.tolist()]


def _xywh(box: Sequence[int]) -> list[int]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]
