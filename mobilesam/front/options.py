"""Ultralytics' keywords of `predict`: what they do here, which change nothing, and which cannot be had."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mobilesam.automatic_mask_generator import SamAutomaticMaskGenerator
from mobilesam.errors import UnsupportedError
from mobilesam.fast.backend import Device

# How to compute what comes out the same; what has only one value here; what is of another task.
COMPUTING = {"batch", "channels_last", "compile", "deterministic", "dnn", "half", "int8", "quantize", "seed", "workers"}
ONE_VALUE = {"cfg", "data", "mode", "model", "rect", "retina_masks", "source", "task", "tracker"}
OF_OTHERS = {"agnostic_nms", "end2end", "nms", "plots", "stream_buffer", "verbose"}
IGNORED = COMPUTING | ONE_VALUE | OF_OTHERS
# Nothing is lost where they are switched off, which is their default.
ONLY_OFF = {
    "augment": 'MobileSAM has no test-time augmentation. quality="best" gives better masks of prompts.',
    "embed": "it returns masks. SAM.predictor.encode_images() returns embeddings.",
    "visualize": "MobileSAM has no class activation maps. Results.plot() draws masks.",
}
EVERYTHING_OPTIONS = inspect.signature(SamAutomaticMaskGenerator).parameters.keys() - {"model", "output_mode"}
# Ultralytics' names for some of them.
EVERYTHING_NAMES = {
    "points_stride": "points_per_side",
    "points_batch_size": "points_per_batch",
    "conf_thres": "pred_iou_thresh",
    "iou": "box_nms_thresh",
    "crop_downscale_factor": "crop_n_points_downscale_factor",
}


@dataclass(frozen=True)
class PredictOptions:
    """What a call of `predict` asks for besides source and prompts.

    Attributes:
        conf: drop masks whose score is not above this. Default: drop nothing.
        max_det: keep so many masks of an image, those of the highest scores. Default: all.
        classes: keep masks with these indices of prompts. Default: all.
        vid_stride: read every so many frames of a video.
        device: move the model there first; None and "" leave it where it is.
        imgsz: 1024, the only size this model has.
        save: write a picture of each image to `<save_dir>/<name>.jpg`; a video to `<save_dir>/<name>.avi`, on a Mac
            `.mp4`.
        save_frames: with `save`, write each frame of a video to `<save_dir>/<name>_frames/<name>_<number>.jpg`, too.
        save_txt: write `<save_dir>/labels/<name>.txt`, see `Results.save_txt`.
        save_conf: with the score at the end of each line.
        save_crop: write `<save_dir>/crops/<object>/<name>.jpg`, see `Results.save_crop`.
        project, name: `save_dir` is `project/name`, and without a project `runs/segment/name`. Default: "predict". If
            it is there, the next free `name-2`, `name-3`, ... is taken.
        exist_ok: write into a folder that is there instead.
        show: open each picture in the system's image viewer.
        show_labels, show_conf, show_boxes, line_width: what pictures have, see `Results.plot`.
        everything: options of `SamAutomaticMaskGenerator`.
    """

    conf: float | None = None
    max_det: int | None = None
    classes: int | Sequence[int] | None = None
    vid_stride: int = 1
    device: Device = None
    imgsz: int | Sequence[int] = 1024
    save: bool = False
    save_frames: bool = False
    save_txt: bool = False
    save_conf: bool = False
    save_crop: bool = False
    project: str | Path | None = None
    name: str | None = None
    exist_ok: bool = False
    show: bool = False
    show_labels: bool = True
    show_conf: bool = True
    show_boxes: bool = True
    line_width: float | None = None
    everything: dict[str, Any] = field(default_factory=dict)

    @property
    def plot(self) -> dict[str, Any]:
        """The options of `Results.plot`."""
        shown = {"labels": self.show_labels, "conf": self.show_conf, "boxes": self.show_boxes}
        return {**shown, "line_width": self.line_width}

    def kept(self, scores: Sequence[float]) -> list[int]:
        """Return the indices of the masks that stay, in order, by the scores of all."""
        chosen = {self.classes} if isinstance(self.classes, int) else self.classes and set(self.classes)
        kept = [i for i, score in enumerate(scores) if self.conf is None or score > self.conf]
        kept = [i for i in kept if chosen is None or i in chosen]
        return sorted(sorted(kept, key=lambda i: -scores[i])[: self.max_det])


OWN = {each.name for each in fields(PredictOptions)} - {"everything"}


def read_options(given: dict[str, Any], *, everything: bool) -> PredictOptions:
    """Sort the keywords of a call; None stands for the default of Ultralytics' own.

    Raises:
        TypeError: an unknown keyword, or one for segmenting everything beside prompts.
        UnsupportedError: one that asks for what is not here.
        ValueError: a value that cannot be.
    """
    own = {name: value for name, value in given.items() if name in OWN and value is not None}
    others = {name: value for name, value in given.items() if name not in OWN and name not in IGNORED}
    for name in ONLY_OFF.keys() & others.keys():
        if (value := others.pop(name)) is not None and value is not False:
            raise UnsupportedError(f"{name} must be off, got {value!r}: {ONLY_OFF[name]} Leave it out.")
    unknown = sorted(name for name in others if EVERYTHING_NAMES.get(name, name) not in EVERYTHING_OPTIONS)
    if unknown:
        raise TypeError(f"predict() got {', '.join(unknown)}, which it does not know. See help(SAM.predict).")
    misplaced = sorted(others.keys() - {"iou"})  # Ultralytics takes and ignores `iou` beside prompts
    if misplaced and not everything:
        raise TypeError(f"{', '.join(misplaced)} must go without prompts, got both. Leave either out.")
    others = {EVERYTHING_NAMES.get(name, name): value for name, value in others.items()} if everything else {}
    options = PredictOptions(**own, everything=others)
    _check(options)
    return options


def _check(options: PredictOptions) -> None:
    if options.imgsz not in (1024, (1024, 1024), [1024, 1024], (1024,), [1024]):
        raise ValueError(
            f"imgsz must be 1024, got {options.imgsz!r}: MobileSAM was trained for this size only. Leave it out: "
            "images of any size are resized to it, and masks have the size of their image."
        )
    for name in ("max_det", "vid_stride"):
        value = getattr(options, name)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} must be a whole number from 1 up, got {value!r}.")
