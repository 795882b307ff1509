"""`MobileSAM`, also called `SAM`: the front that an Ultralytics user can move to by changing one import."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobilesam.automatic_mask_generator import SamAutomaticMaskGenerator
from mobilesam.build_sam import load_model, load_weights
from mobilesam.errors import ImageError, PromptError
from mobilesam.fast.backend import Device, chosen_device, named_device
from mobilesam.front.nested_prompts import parse_prompts, split_by_image
from mobilesam.front.options import read_options
from mobilesam.front.results import Results
from mobilesam.front.run import EVENTS, PredictRun
from mobilesam.geometry import ImageEmbedding, MaskCrop
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


class MobileSAM:
    """Masks from boxes, points and masks, or of everything, for images from anywhere.

        SAM("mobile_sam.pt").predict("zidane.jpg", bboxes=[439, 437, 524, 709])
        SAM("mobile_sam.pt").predict("zidane.jpg")

    Args:
        model: "mobile_sam.pt" for a local file of that name or else the bundled weights; another weights file; or a
            `Sam`.
        device: where to run, such as "cpu", "cuda:0" or 0. Default, and for "": a GPU if there is one.
        preprocess: "sam" for the original SAM's numbers, "ultralytics" for Ultralytics'.
        precision: "fp32"; "bf16" is faster, with masks that differ by about 1% of their area; "auto" for bf16 where
            the device multiplies it.
        verify: test a model loaded from a file, and any precision but fp32, on a known image first.

    Attributes:
        overrides: options for every call of `predict` that does not give them itself.
        callbacks: functions by event, see `add_callback`.

    Raises:
        CheckpointError: the weights do not load, or the model fails its self-test.
    """

    task = "segment"

    def __init__(
        self,
        model: str | Path | Sam = "mobile_sam.pt",
        *,
        device: Device = None,
        preprocess: str = "sam",
        precision: str = "fp32",
        verify: bool = True,
    ):
        self.weights = "" if isinstance(model, Sam) else absolute_weights(model)
        if not isinstance(model, Sam):
            model = load_model(model, device=device, verify=verify)
        elif named_device(device) is not None:
            model = model.to(named_device(device))
        self.model = model
        if verify:
            precision = usable_precision(model, precision)
        self.predictor = SamPredictor(model, preprocess=preprocess, fast=True, precision=precision)
        self.overrides: dict[str, Any] = {"model": self.weights, "task": self.task}
        self.callbacks: dict[str, list[Callable[[PredictRun], Any]]] = {event: [] for event in EVENTS}
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
        **options: Any,
    ) -> list[Results] | Iterator[Results]:
        """Predict a mask for each prompt, or of everything if there is none, in each image of the source.

        Args:
            source: a path, a folder, a glob pattern, a video, an array (H, W, 3) BGR, a PIL image, a tensor (3, H, W)
                RGB, or a list of these; None for the image of `set_image`, else for `overrides["source"]`. Prompts are
                the same for all images, or a list with those of each image of a list:
                `predict([a, b], bboxes=[boxes_of_a, boxes_of_b])`.
            stream: give a generator, which holds one image at a time, instead of a list.
            bboxes: (4,) or (N, 4) xyxy pixels of the original image, or a detector's result.
            points: (2,) one object; (N, 2) N objects of one point each; (N, K, 2), ragged too, N objects of K points.
            labels: the same nesting as `points`: 1 foreground, 0 background. Default: all 1.
            masks: N mask prompts: (256, 256) low-res logits, or (H, W) bool of the original image.
            multimask_output: three masks a prompt instead of one.
            quality: "fast", or "best" for better masks of prompts at about 1 to 3 times the time.
            overlap: "exclusive" gives pixels that several masks of an image claim to one of them; "keep" does not.
            **options: those of `mobilesam.front.options.PredictOptions`, which are Ultralytics': `conf`, `device`,
                `save`, `save_txt`, `max_det` and so on. Without prompts also those of `SamAutomaticMaskGenerator`, such
                as `points_per_side=16`, also by the names that Ultralytics has for them. Keywords of Ultralytics that
                change nothing here are ignored.

        Returns:
            One `Results` an image. Masks are in the order of the prompts, those of everything by falling score;
            `boxes.cls` is the index of the prompt or of the mask.

        Raises:
            ImageError: the source has no images, or one cannot be read.
            PromptError: a prompt is wrong.
            TypeError: an unknown keyword, or one for segmenting everything beside prompts.
            UnsupportedError: a keyword of Ultralytics that asks for what is not here.
        """
        current = self._current if source is None else None
        if source is None and current is None:
            source = self.overrides.get("source")
        everything = all(prompt is None for prompt in (bboxes, points, labels, masks))
        asked = read_options({**self.overrides, **options}, everything=everything)
        if overlap not in ("keep", "exclusive"):
            raise ValueError(f"overlap must be 'keep' or 'exclusive', got {overlap!r}.")
        if everything and (quality != "fast" or overlap != "keep"):
            raise TypeError("quality and overlap must go with prompts, got none. Leave them out.")
        if (device := named_device(asked.device)) is not None:
            self.model.to(device)
        if everything:
            find = repeat(SamAutomaticMaskGenerator(self.predictor, **asked.everything).generate_crops)
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
        images = iter_images(source, vid_stride=asked.vid_stride) if current is None else [current[:2]]
        results = PredictRun(self, asked).stream(images, find)
        return results if stream else list(results)

    __call__ = predict

    def to(self, device: Device) -> "MobileSAM":
        """Move the model, and return this."""
        self.model.to(chosen_device(device))
        return self

    def eval(self) -> "MobileSAM":
        """Return this: the model is in eval mode, unless somebody changed that."""
        self.model.eval()
        return self

    def add_callback(self, event: str, func: Callable[[PredictRun], Any]) -> None:
        """Have a function called in each call of `predict`.

        Args:
            event: "on_predict_start" and "on_predict_end" once a call; "on_predict_batch_start",
                "on_predict_postprocess_end" and "on_predict_batch_end" once an image.
            func: takes a `PredictRun`.

        Raises:
            ValueError: another event.
        """
        if event not in self.callbacks:
            raise ValueError(
                f"event must be one of {', '.join(self.callbacks)}, got {event!r}. Others never happen here."
            )
        self.callbacks[event].append(func)

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


SAM = MobileSAM
