"""What a caller may choose, in one place: what is made of a prompt, which labels are prompts, and how it is written."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from mobilesam.base_predictor import QUALITIES, check_quality

PROMPT_FIELDS = ("prompt_field", "box_prompt_field", "point_prompt_field")


@dataclass(frozen=True)
class MaskOptions:
    """What is made of a prompt: the same for datasets, COCO files and Ray.

    Attributes:
        clip: cut each mask at its prompt box, snapped outward to whole pixels. A number grows the box by that fraction
            of its size on each side first; False keeps all of the mask. Prompts without a box are never clipped.
        multimask_output: take the best of three candidates by predicted IoU. Default: for single points only.
        min_region_area: holes and islands of fewer pixels are filled and removed. 0 leaves masks as they are.
        quality: "fast", or "best" for better masks at about 1 to 3 times the time.
        overlap: "keep" leaves each mask as it is; "exclusive" gives pixels that several masks of an image claim to the
            one that has most of itself there, see `mobilesam.geometry.overlap`, and counts those that a mask lost in
            `pixels_moved`.
        refine: the masks and polygons that prompts have are prompts too: each is made again from its box and its own
            pixels, and may leave its box by 15% of its size. `outline_iou` tells how like the new one it is.
    """

    clip: bool | float = True
    multimask_output: bool | None = None
    min_region_area: int = 0
    quality: str = "fast"
    overlap: str = "keep"
    refine: bool = False

    def __post_init__(self) -> None:
        check_choice("multimask_output", self.multimask_output, (None, True, False))
        check_choice("quality", self.quality, QUALITIES)
        check_choice("overlap", self.overlap, ("keep", "exclusive"))
        check_choice("refine", self.refine, (False, True))
        check_quality(self.quality, self.multimask_output)
        if not isinstance(self.clip, (bool, int, float)) or not self.clip >= 0:
            raise ValueError(f"clip must be True, False or a fraction such as 0.05, got {self.clip!r}.")
        if not isinstance(self.min_region_area, (int, float)) or not self.min_region_area >= 0:
            raise ValueError(f"min_region_area must be a number of pixels, 0 or more, got {self.min_region_area!r}.")

    @classmethod
    def parse(cls, defaults: "MaskOptions | None" = None, **options: Any) -> Any:
        """Return `defaults` with some options replaced."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(options.keys() - set(known)):
            raise TypeError(f"Options must be among {', '.join(known)}, got {', '.join(unknown)}. Check the spelling.")
        if any(options.get(name) for name in PROMPT_FIELDS):  # a call that names its prompts replaces all of them
            options = {**dict.fromkeys(PROMPT_FIELDS), **options}
        return replace(defaults or cls(), **options)

    def changed(self) -> dict[str, Any]:
        """Return the options that are not the defaults, as keywords."""
        defaults = type(self)()
        names = [field.name for field in fields(self)]
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(defaults, name)}


@dataclass(frozen=True)
class Options(MaskOptions):
    """Options of a run over a dataset: those of `MaskOptions`, and what its labels need.

    Attributes:
        prompt_field: field whose labels are the prompts: Detections, Keypoints or Polylines, or one such label.
            Without any prompt field everything in the images is segmented.
        box_prompt_field: field of boxes, to use together with `point_prompt_field`.
        point_prompt_field: field of keypoints. A box and a keypoint of one object are one prompt; they belong together
            if they share an `instance` or an `index`, or stand at the same place in lists of one length.
        point_confidence_thresh: keypoints below this confidence are left out.
        everything: how to segment everything, as keywords of `SamAutomaticMaskGenerator`: {"points_per_side": 16}.
        box: what the output's bounding box is: "mask", tight around the mask, or "prompt", the prompt's. Default: see
            `box_is_prompt`.
        confidence: what the output's `confidence` is: "prompt", copied, and where the prompt has none the mask's own,
            see `fiftyone_mobilesam.confidence`; or "predicted_iou".
        in_place: fill the masks of the prompt detections themselves; `label_field` must be the prompt field.
        merge: keep what `label_field` holds of other prompts. Default: a sample's labels are replaced.
        on_error: "skip" to write a failure down and go on, "raise" to stop at the first one.
    """

    prompt_field: str | None = None
    box_prompt_field: str | None = None
    point_prompt_field: str | None = None
    point_confidence_thresh: float = 0.25
    everything: dict[str, Any] = field(default_factory=dict)
    box: str | None = None
    confidence: str = "prompt"
    in_place: bool = False
    merge: bool = False
    on_error: str = "skip"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("box", self.box, (None, "mask", "prompt"))
        check_choice("confidence", self.confidence, ("prompt", "predicted_iou"))
        check_choice("on_error", self.on_error, ("skip", "raise"))
        if self.box == "prompt" and self.clip is not True:
            raise ValueError(f'box="prompt" must go with clip=True, got clip={self.clip!r}. Use box="mask".')
        if self.refine and self.in_place:
            raise ValueError("refine=True must go into another field, got in_place=True, which loses the masks before.")
        if self.refine and self.box == "prompt":
            raise ValueError('box="prompt" must go without refine=True: a refined mask may leave its box.')
        if self.merge and self.in_place:
            raise ValueError("merge=True must go without in_place=True, which keeps all labels anyway. Leave one out.")
        if self.prompt_field and (self.box_prompt_field or self.point_prompt_field):
            raise ValueError(
                "prompt_field must stand alone, got box_prompt_field or point_prompt_field as well. "
                "Name either one prompt_field, or the box field and the point field."
            )

    @property
    def prompt_paths(self) -> dict[str, str]:
        """The prompt fields that are set, by option name."""
        return {name: getattr(self, name) for name in PROMPT_FIELDS if getattr(self, name)}

    @property
    def box_is_prompt(self) -> bool:
        """Whether the output's bounding box is the prompt's. A mask that leaves its box never has it."""
        return self.clip is True and not self.refine and box_is_prompt(self.box, filled=self.in_place)


def box_is_prompt(box: str | None, *, filled: bool) -> bool:
    """Return whether the output's bounding box is the prompt's: by default where a label is filled that has one.

    Labels are `filled` in place or in a COCO file, else made.
    """
    return filled if box is None else box == "prompt"


def check_choice(name: str, value: Any, choices: tuple) -> None:
    """Check an option that is one of a few values."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")


def check_count(name: str, value: Any) -> None:
    """Check an option that is a whole number."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number, 1 or more, got {value!r}.")
