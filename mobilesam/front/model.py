"""`MobileSAM`, also called `SAM`: the front that an Ultralytics user can move to by changing one import."""

import inspect
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilesam.automatic_mask_generator import SamAutomaticMaskGenerator
from mobilesam.build_sam import load_model, load_weights
from mobilesam.errors import ImageError, PromptError
from mobilesam.front.nested_prompts import parse_prompts, split_by_image
from mobilesam.front.results import Boxes, Masks, Results
from mobilesam.geometry import ImageEmbedding, MaskCrop
from mobilesam.geometry.boxes import last_inclusive
from mobilesam.geometry.overlap import exclusive
from mobilesam.images import is_one_image, iter_images
from mobilesam.modeling import Sam
from mobilesam.predictor import SamPredictor
from mobilesam.prompts import Prompt
from mobilesam.quality.validation import Validation, validate
from mobilesam.selftest import usable_precision
from mobilesam.training.coco import train_on_coco
from mobilesam.training.train import Training
from mobilesam.weights import absolute_weights

# Keywords of Ultralytics' `predict` that have no meaning here or only one possible value, so that calls still work.
ACCEPTED = {"verbose", "task", "mode", "retina_masks", "show_labels", "show_conf", "show_boxes", "batch", "half"}
EVERYTHING_OPTIONS = inspect.signature(SamAutomaticMaskGenerator).parameters.keys() - {"model", "output_mode"}
# Ultralytics' names for some of them.
EVERYTHING_NAMES = {
    "points_stride": "points_per_side",
    "points_batch_size": "points_per_batch",
    "conf_thres": "pred_iou_thresh",
    "iou": "box_nms_thresh",
    "crop_downscale_factor": "crop_n_points_downscale_factor",
}


class MobileSAM:
    """Masks from boxes, points and masks, or of everything, for images from anywhere.

        SAM("mobile_sam.pt").predict("zidane.jpg", bboxes=[439, 437, 524, 709])
        SAM("mobile_sam.pt").predict("zidane.jpg")

    Args:
        model: "mobile_sam.pt" for a local file of that name or else the bundled weights; another weights file; or a
            `Sam`.
        device: where to run, such as "cpu" or "cuda:0". Default: a GPU if there is one.
        preprocess: "sam" for the original SAM's numbers, "ultralytics" for Ultralytics'.
        precision: "fp32"; "bf16" is faster, with masks that differ by about 1% of their area; "auto" for bf16 where
            the device multiplies it.
        verify: test a model loaded from a file, and any precision but fp32, on a known image first.

    Raises:
        CheckpointError: the weights do not load, or the model fails its self-test.
    """

    task = "segment"

    def __init__(
        self,
        model: str | Path | Sam = "mobile_sam.pt",
        *,
        device: str | torch.device | int | None = None,
        preprocess: str = "sam",
        precision: str = "fp32",
        verify: bool = True,
    ):
        self.weights = "" if isinstance(model, Sam) else absolute_weights(model)
        if not isinstance(model, Sam):
            model = load_model(model, device=_device(device), verify=verify)
        elif device is not None:
            model = model.to(_device(device))
        self.model = model
        if verify:
            precision = usable_precision(model, precision)
        self.predictor = SamPredictor(model, preprocess=preprocess, fast=True, precision=precision)
        self._current: tuple[str, np.ndarray, ImageEmbedding] | None = None  # path, pixels, embedding

    @property
    def device(self) -> torch.device:
        """The device the model is on."""
        return self.model.device

    def predict(
        self,
        source: Any = None,
        stream: bool = False,
        bboxes: Any = None,
        points: Any = None,
        labels: Any = None,
        *,
        masks: Any = None,
        multimask_output: bool = False,
        quality: str = "fast",
        overlap: str = "keep",
        conf: float | None = None,
        device: str | torch.device | int | None = None,
        imgsz: int = 1024,
        save: bool = False,
        **options: Any,
    ) -> list[Results] | Iterator[Results]:
        """Predict a mask for each prompt, or of everything if there is none, in each image of the source.

        Args:
            source: a path, a folder, a glob pattern, a video, an array (H, W, 3) BGR, a PIL image, a tensor (3, H, W)
                RGB, or a list of these; None for the image of `set_image`. Prompts are the same for all images, or a
                list with those of each image of a list: `predict([a, b], bboxes=[boxes_of_a, boxes_of_b])`.
            stream: give a generator, which holds one image at a time, instead of a list.
            bboxes: (4,) or (N, 4) xyxy pixels of the original image, or a detector's result.
            points: (2,) one object; (N, 2) N objects of one point each; (N, K, 2), ragged too, N objects of K points.
            labels: the same nesting as `points`: 1 foreground, 0 background. Default: all 1.
            masks: N mask prompts: (256, 256) low-res logits, or (H, W) bool of the original image.
            multimask_output: three masks a prompt instead of one.
            quality: "fast", or "best" for better masks of prompts at about 1 to 3 times the time.
            overlap: "exclusive" gives pixels that several masks of an image claim to one of them; "keep" does not.
            conf: drop masks whose score is not above this. Default: drop nothing.
            device: move the model there first.
            imgsz: 1024, the only size this model has.
            save: write each picture to `results_<name>.jpg` in the current folder.
            **options: without prompts those of `SamAutomaticMaskGenerator`, such as `points_per_side=16`, also by
                the names that Ultralytics has for them. Keywords of Ultralytics that change nothing here are ignored.

        Returns:
            One `Results` an image. Masks are in the order of the prompts, those of everything by falling score;
            `boxes.cls` is the index of the prompt or of the mask.

        Raises:
            ImageError: the source has no images, or one cannot be read.
            PromptError: a prompt is wrong.
            TypeError: an unknown keyword, or one for segmenting everything beside prompts.
        """
        options = {name: value for name, value in options.items() if name not in ACCEPTED}
        everything = all(prompt is None for prompt in (bboxes, points, labels, masks))
        unknown = sorted(name for name in options if EVERYTHING_NAMES.get(name, name) not in EVERYTHING_OPTIONS)
        if unknown:
            raise TypeError(f"predict() got {', '.join(unknown)}, which it does not know. See help(SAM.predict).")
        misplaced = sorted(options.keys() - {"iou"})  # Ultralytics takes and ignores `iou` beside prompts
        if misplaced and not everything:
            raise TypeError(f"{', '.join(misplaced)} must go without prompts, got both. Leave either out.")
        if imgsz not in (1024, (1024, 1024), [1024, 1024]):
            raise ValueError(f"imgsz must be 1024, got {imgsz!r}: MobileSAM was trained for this size only.")
        if device is not None:
            self.model.to(_device(device))
        if overlap not in ("keep", "exclusive"):
            raise ValueError(f"overlap must be 'keep' or 'exclusive', got {overlap!r}.")
        if everything and (quality != "fast" or overlap != "keep"):
            raise TypeError("quality and overlap must go with prompts, got none. Leave them out.")
        if everything:
            options = {EVERYTHING_NAMES.get(name, name): value for name, value in options.items()}
            find = repeat(SamAutomaticMaskGenerator(self.predictor, **options).generate_crops)
        else:
            prompts = {"bboxes": bboxes, "points": points, "labels": labels, "masks": masks}
            by_image = split_by_image(len(source), prompts) if isinstance(source, (list, tuple)) else None
            if by_image is not None and not all(map(is_one_image, source)):
                raise PromptError(
                    "Prompts that differ by image need a list of single images, got folders, patterns, videos or lists "
                    "in it. List their images one by one."
                )
            parsed = repeat(parse_prompts(**prompts)) if by_image is None else [parse_prompts(**p) for p in by_image]
            how = {"multimask_output": multimask_output, "quality": quality, "overlap": overlap}
            find = (partial(self._find, one, **how) for one in parsed)
        results = self._stream(source, find, conf=conf, save=save)
        return results if stream else list(results)

    __call__ = predict

    def info(self, detailed: bool = False, verbose: bool = True) -> tuple[int, int]:
        """Return the number of modules and of parameters; print them if `verbose`, each part's if `detailed`."""
        parts = self.model.named_children()
        counts = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in parts}
        modules, parameters = len(list(self.model.modules())), sum(counts.values())
        if verbose:
            print(f"MobileSAM: {modules} modules, {parameters:,} parameters, on {self.device}")
            for name, count in counts.items() if detailed else []:
                print(f"  {name}: {count:,} parameters")
        return modules, parameters

    def set_image(self, source: Any) -> None:
        """Encode an image once, for calls of `predict` without a source.

        Raises:
            ImageError: not one image.
        """
        found = list(islice(iter_images(source, array_format="BGR"), 2))
        if len(found) != 1:
            raise ImageError("source must be one image, got several. Pass them to predict().")
        [(path, image)] = found
        self._current = path, image, self.predictor.encode_images([image])[0]

    def reset_image(self) -> None:
        """Forget the image."""
        self._current = None

    def val(self, coco: str | Path, images: str | Path, **options: Any) -> Validation:
        """Compare masks with COCO ground truth. See `mobilesam.quality.validation.validate` for the options."""
        return validate(self.predictor, coco, images, **options)

    def train(self, coco: str | Path, images: str | Path, **options: Any) -> Training:
        """Learn from COCO masks, and go on with the new weights if they are better on images left out.

        See `mobilesam.training.coco.train_on_coco` for the options, such as `out`.
        """
        training = train_on_coco(self.model, coco, images, started_from=self.weights, **options)
        if training.path:
            load_weights(self.model, training.path)
            self.weights = str(training.path)
        return training

    def _find(
        self, prompts: list[Prompt], image: np.ndarray, *, multimask_output: bool, quality: str, overlap: str
    ) -> list[MaskCrop]:
        if self._current is not None and image is self._current[1]:
            embedding = self._current[2]
        else:
            [embedding] = self.predictor.encode_images([image])
        crops = self.predictor.predict_batch(
            prompts,
            image=embedding,
            multimask_output=multimask_output,
            return_low_res_logits=True,
            quality=quality,
            return_logits=overlap == "exclusive",
        )
        found = [crop for candidates in crops for crop in candidates]
        return exclusive(found, image.shape[:2]) if overlap == "exclusive" else found

    def export(self, format: str = "onnx", **options: Any) -> tuple[Path, Path]:
        """Write an encoder and a decoder for other programs, and return the paths of both.

        Args:
            format: "onnx", "torchscript" or "openvino".
            **options: those of `mobilesam.export.export_onnx` and its neighbours, such as `folder`, `signature`,
                `precision`.

        Raises:
            ExportError: an unknown format or option value; the exported model does not agree with this one.
            MissingPackageError: a package that the format needs is not installed.
        """
        from mobilesam.export import export

        return export(self.model, format, **options)

    def _stream(
        self, source: Any, finders: Iterable[Callable[[np.ndarray], list[MaskCrop]]], *, conf: float | None, save: bool
    ) -> Iterator[Results]:
        start = time.perf_counter()
        images = iter_images(source, array_format="BGR")
        if source is None and self._current is not None:
            images = iter([self._current[:2]])
        for (path, image), find in zip(images, finders, strict=False):
            read = time.perf_counter()
            crops = find(image)
            predicted = time.perf_counter()
            result = self._results(path, image, crops, conf)
            end = time.perf_counter()
            times = {"preprocess": read - start, "inference": predicted - read, "postprocess": end - predicted}
            result.speed = {name: 1000 * seconds for name, seconds in times.items()}
            if save:
                result.save()
            yield result
            start = time.perf_counter()

    def _results(self, path: str, image: np.ndarray, crops: list[MaskCrop], conf: float | None) -> Results:
        names = {index: str(index) for index in range(len(crops))}
        kept = [(i, crop) for i, crop in enumerate(crops) if conf is None or crop.iou_prediction > conf]
        original_hw = image.shape[:2]
        masks = np.zeros((len(kept), *original_hw), dtype=bool)
        boxes = np.zeros((len(kept), 6), dtype=np.float32)
        for row, (index, crop) in enumerate(kept):
            masks[row] = crop.full(original_hw)
            boxes[row] = *last_inclusive(crop.region), crop.iou_prediction, index
        logits = [crop.low_res_logits for _, crop in kept]
        known = all(x is not None for x in logits)
        low_res_logits = np.array(logits, dtype=np.float32).reshape(-1, 256, 256) if known else None
        boxes = Boxes(torch.from_numpy(boxes).to(self.device), original_hw)
        masks = Masks(torch.from_numpy(masks).to(self.device), original_hw)
        bgr = np.ascontiguousarray(image[..., ::-1])
        mask_quality = [crop.mask_quality for _, crop in kept]
        return Results(bgr, path, names, boxes, masks, low_res_logits=low_res_logits, mask_quality=mask_quality)


SAM = MobileSAM


def _device(device: str | torch.device | int | None) -> torch.device | None:
    """Read a device as Ultralytics users write it: 0, "0", "cuda:0", "cpu"."""
    if device is None or isinstance(device, torch.device):
        return device
    return torch.device(f"cuda:{device}" if str(device).isdigit() else str(device))
