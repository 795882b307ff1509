"""Masks beside COCO ground truth: `SAM.val` and `mobilesam validate`."""

import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.errors import AnnotationError, ImageError, MobileSamError
from mobilesam.geometry import clip_region
from mobilesam.geometry.masks import interior_point
from mobilesam.images import read_image
from mobilesam.packages import require
from mobilesam.predictor import SamPredictor
from mobilesam.prompts import Prompt
from mobilesam.quality.metrics import boundary_iou, calibration, jittered, mask_iou, size_of

PROMPTS = ("box", "point", "jitter")
SIZES = ("small", "medium", "large")

Case = tuple[dict, np.ndarray, Prompt]  # annotation, true mask, prompt


@dataclass
class Validation:
    """What a validation found.

    Attributes:
        prompts: "box", "point" or "jitter".
        rows: one dict an object: image, category, size, iou, boundary_iou, predicted_iou.
        failed: image and reason of those that could not be read, and of annotations that could not be used.
        ap: COCO's average precision of masks scored by predicted IoU, under pycocotools' names; {} without it.
    """

    prompts: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    ap: dict[str, float] = field(default_factory=dict)

    def mean(self, name: str = "iou", **wanted: str) -> float:
        """Return the mean of a column over all objects, or over those of a size or category; NaN for none."""
        values = [row[name] for row in self.rows if all(row[key] == value for key, value in wanted.items())]
        return float(np.mean(values)) if values else float("nan")

    def calibration(self) -> dict[str, Any]:
        """Compare predicted with true IoUs, see `mobilesam.quality.metrics.calibration`."""
        return calibration(*(np.array([row[name] for row in self.rows]) for name in ("predicted_iou", "iou")))

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as plain data."""
        return {
            "prompts": self.prompts,
            "objects": len(self.rows),
            "mean_iou": self.mean(),
            "mean_boundary_iou": self.mean("boundary_iou"),
            "by_size": {size: self.mean(size=size) for size in SIZES if any(row["size"] == size for row in self.rows)},
            "by_category": {name: self.mean(category=name) for name in self._categories()},
            "ap": self.ap,
            "calibration": self.calibration(),
            "failed": self.failed,
            "rows": self.rows,
        }

    def table(self) -> str:
        """Return the figures as Markdown."""
        found = self.calibration()
        groups = [("all", {}), *((size, {"size": size}) for size in SIZES)]
        groups += [(name, {"category": name}) for name in self._categories()]
        lines = [f"Prompts: {self.prompts}", "", "| | objects | mean IoU | boundary IoU | predicted IoU |"]
        lines.append("|---|---|---|---|---|")
        for name, wanted in groups:
            count = sum(all(row[key] == value for key, value in wanted.items()) for row in self.rows)
            figures = [self.mean(column, **wanted) for column in ("iou", "boundary_iou", "predicted_iou")]
            lines.append(f"| {name} | {count} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
        correlations = [f"{name} {found[name]:.2f}" for name in ("pearson", "spearman") if found[name] is not None]
        lines += ["", f"Predicted against true IoU: {', '.join(correlations) or 'too few objects'}; "]
        lines[-1] += f"expected calibration error {found['expected_calibration_error']:.3f}"
        if self.ap:
            lines.append("Masks scored by predicted IoU: " + ", ".join(f"{k} {v:.3f}" for k, v in self.ap.items()))
        lines += [f"Not read: {path}: {reason}" for path, reason in self.failed]
        return "\n".join(lines)

    def plot(self, path: str | Path) -> None:
        """Draw predicted against true IoU.

        Raises:
            MissingPackageError: matplotlib is not installed.
        """
        figure = require("matplotlib.figure").Figure(figsize=(5, 5), layout="constrained")
        axes = figure.subplots()
        for size in SIZES:
            rows = [row for row in self.rows if row["size"] == size]
            axes.scatter([r["predicted_iou"] for r in rows], [r["iou"] for r in rows], s=9, alpha=0.6, label=size)
        bins = self.calibration()["bins"]
        axes.plot([b["predicted"] for b in bins], [b["true"] for b in bins], color="black", marker="o", label="mean")
        axes.plot([0, 1], [0, 1], color="gray", linestyle=":")
        axes.set(xlabel="predicted IoU", ylabel="true IoU", xlim=(0, 1.05), ylim=(0, 1.02))
        axes.legend()
        figure.savefig(path, dpi=110)

    def _categories(self) -> list[str]:
        return sorted({row["category"] for row in self.rows})


def validate(
    predictor: SamPredictor,
    coco: str | Path,
    images: str | Path,
    *,
    prompts: str = "box",
    jitter: float = 0.1,
    clip: bool = True,
    limit: int | None = None,
    seed: int = 0,
) -> Validation:
    """Prompt with what the ground truth knows, and compare the masks with it. Crowds are left out.

    Args:
        predictor: the model.
        coco: COCO instances file, polygons or run lengths.
        images: the folder of its images.
        prompts: "box" for the true boxes, "jitter" for boxes with each edge moved, "point" for the pixel farthest
            inside.
        jitter: how far edges move, as a share of the box's side.
        clip: cut masks at their box. Points have none.
        limit: use so many images at most.
        seed: of the jitter.

    Raises:
        ValueError: another `prompts`.
        AnnotationError: the file is not COCO's.
        ImageError: no image with objects was found.
        MissingPackageError: pycocotools is not installed.
    """
    if prompts not in PROMPTS:
        raise ValueError(f"prompts must be one of {', '.join(PROMPTS)}, got {prompts!r}.")
    report, detections, compared = Validation(prompts), [], []
    rng = np.random.default_rng(seed)
    truth = _load(coco)
    for record, objects in _with_objects(truth, limit):
        path = Path(images) / record["file_name"]
        try:
            image = read_image(path)
            predictor.set_image(image)
            original_hw, cases = image.shape[:2], []
            for annotation in objects:
                try:
                    cases.append(_case(annotation, truth, original_hw, prompts, jitter, rng))
                except MobileSamError as error:
                    report.failed.append((f"{path}, annotation {annotation['id']}", str(error)))
            regions = [clip_region(prompt.box, clip, original_hw=original_hw) for _, _, prompt in cases]
            found = predictor.predict_batch([prompt for _, _, prompt in cases], regions=regions)
        except MobileSamError as error:
            report.failed.append((str(path), str(error)))
            continue
        for (annotation, true, _), [crop] in zip(cases, found, strict=True):
            mask = crop.full(original_hw)
            report.rows.append(
                {
                    "image": record["file_name"],
                    "category": truth.cats.get(annotation["category_id"], {}).get("name", "unknown category"),
                    "size": size_of(annotation.get("area", true.sum())),
                    "iou": mask_iou(mask, true),
                    "boundary_iou": boundary_iou(mask, true),
                    "predicted_iou": crop.iou_prediction,
                }
            )
            detections.append(_detection(annotation, mask, crop.iou_prediction))
            compared.append(annotation)
    if not report.rows:
        raise ImageError(f"images must hold images of {coco} with objects, got {str(images)!r} with none.")
    report.ap = _average_precision(truth, detections, compared)
    return report


def _load(path: str | Path) -> Any:
    truth = require("pycocotools.coco").COCO()  # given a file it prints to stdout
    try:
        truth.dataset = json.loads(Path(path).read_text(encoding="utf-8"))
        truth.dataset["images"], truth.dataset["annotations"], truth.dataset["categories"]
        with redirect_stdout(StringIO()):
            truth.createIndex()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AnnotationError(
            f"coco must be a COCO file with images, annotations and categories, got {str(path)!r}: {error!r}."
        ) from error
    return truth


def _with_objects(truth: Any, limit: int | None) -> Iterator[tuple[dict, list[dict]]]:
    records = (
        (record, truth.loadAnns(truth.getAnnIds(record["id"], iscrowd=False)))
        for record in truth.loadImgs(truth.getImgIds())
    )
    return islice((pair for pair in records if pair[1]), limit)


def _case(
    annotation: dict, truth: Any, original_hw: tuple[int, int], prompts: str, jitter: float, rng: np.random.Generator
) -> Case:
    """Return an annotation, its mask, and the prompt made from them, or raise why it cannot be used."""
    x, y, width, height = annotation.get("bbox") or (0, 0, 0, 0)
    try:
        true = truth.annToMask(annotation).astype(bool)
    except Exception as error:  # pycocotools raises what its C code meets
        raise AnnotationError(
            f"segmentation must be polygons or run lengths, got none that can be read: {error!r}."
        ) from error
    if true.shape != original_hw:
        raise AnnotationError(
            f"The annotation is for an image of {true.shape}, the file has {original_hw} once it is upright."
        )
    if not true.any() or width <= 0 or height <= 0:
        raise AnnotationError("The annotation must have a bbox and a mask with pixels, got an empty one.")
    box = np.array([x, y, x + width, y + height], dtype=float)
    if prompts == "jitter":
        box = jittered(box, jitter, rng, original_hw)
    prompt = Prompt(point_coords=np.array([interior_point(true)])) if prompts == "point" else Prompt(box=box)
    prompt.check_inside(original_hw)
    return annotation, true, prompt


def _detection(annotation: dict, mask: np.ndarray, score: float) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    keys = {key: annotation[key] for key in ("image_id", "category_id")}
    return keys | {"segmentation": rle, "score": score}


def _average_precision(truth: Any, detections: list[dict], annotations: list[dict]) -> dict[str, float]:
    """Evaluate the detections against the annotations that were compared, and no others."""
    from pycocotools.cocoeval import COCOeval

    truth.dataset = {"info": {}, **truth.dataset, "annotations": annotations}
    with redirect_stdout(StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "segm")
        evaluation.params.imgIds = sorted({annotation["image_id"] for annotation in annotations})
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(("AP", "AP50", "AP75"), evaluation.stats[:3], strict=True)}
