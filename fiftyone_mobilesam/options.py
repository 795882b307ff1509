"""What a caller may choose, in one place: at `load_model(...)` for good, or at `apply_model(...)` for one run."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

PROMPT_FIELDS = ("prompt_field", "box_prompt_field", "point_prompt_field")


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes:
        prompt_field: field whose labels are the prompts: Detections, Keypoints or Polylines, or one such label.
            Without any prompt field everything in the images is segmented.
        box_prompt_field: field of boxes, to use together with `point_prompt_field`.
        point_prompt_field: field of keypoints. A box and a keypoint of one object are one prompt; they belong together
            if they share an `instance` or an `index`, or stand at the same place in lists of one length.
        clip: cut each mask at its prompt box, snapped outward to whole pixels. A number grows the box by that fraction
            of its size on each side first; False keeps all of the mask. Prompts without a box are never clipped.
        box: what the output's bounding box is: "mask", tight around the mask, or "prompt", the prompt box snapped
            outward to whole pixels. Default: "prompt" if `in_place`, else "mask".
        multimask_output: take the best of three candidates by predicted IoU. Default: for single points only.
        confidence: what the output's `confidence` is: "prompt", copied, or "predicted_iou".
        point_confidence_thresh: keypoints below this confidence are left out.
        in_place: fill the masks of the prompt detections themselves; `label_field` must be the prompt field.
        merge: keep what `label_field` holds of other prompts. Default: a sample's labels are replaced.
        min_region_area: holes and islands of fewer pixels are filled and removed. 0 leaves masks as they are.
        everything: how to segment everything, as keywords of `SamAutomaticMaskGenerator`: {"points_per_side": 16}.
        on_error: "skip" to write a failure down and go on, "raise" to stop at the first one.
    """

    prompt_field: str | None = None
    box_prompt_field: str | None = None
    point_prompt_field: str | None = None
    clip: bool | float = True
    box: str | None = None
    multimask_output: bool | None = None
    confidence: str = "prompt"
    point_confidence_thresh: float = 0.25
    in_place: bool = False
    merge: bool = False
    min_region_area: int = 0
    everything: dict[str, Any] = field(default_factory=dict)
    on_error: str = "skip"

    def __post_init__(self) -> None:
        _check_choice("box", self.box, (None, "mask", "prompt"))
        _check_choice("confidence", self.confidence, ("prompt", "predicted_iou"))
        _check_choice("on_error", self.on_error, ("skip", "raise"))
        _check_choice("multimask_output", self.multimask_output, (None, True, False))
        if not isinstance(self.clip, (bool, int, float)) or not self.clip >= 0:
            raise ValueError(f"clip must be True, False or a fraction such as 0.05, got {self.clip!r}.")
        if self.box == "prompt" and self.clip is not True:
            raise ValueError(f'box="prompt" must go with clip=True, got clip={self.clip!r}. Use box="mask".')
        if not isinstance(self.min_region_area, (int, float)) or not self.min_region_area >= 0:
            raise ValueError(f"min_region_area must be a number of pixels, 0 or more, got {self.min_region_area!r}.")
        if self.merge and self.in_place:
            raise ValueError("merge=True must go without in_place=True, which keeps all labels anyway. Leave one out.")
        if self.prompt_field and (self.box_prompt_field or self.point_prompt_field):
            raise ValueError(
                "prompt_field must stand alone, got box_prompt_field or point_prompt_field as well. "
                "Name either one prompt_field, or the box field and the point field."
            )

    @classmethod
    def parse(cls, defaults: "Options | None" = None, **kwargs: Any) -> "Options":
        """Return `defaults` with some options replaced.

        Raises:
            TypeError: an option that does not exist.
            ValueError: an option with a wrong value.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(kwargs.keys() - set(known))
        if unknown:
            raise TypeError(f"Options must be among {', '.join(known)}, got {', '.join(unknown)}. Check the spelling.")
        if any(kwargs.get(name) for name in PROMPT_FIELDS):  # a call that names its prompts replaces all of them
            kwargs = {**dict.fromkeys(PROMPT_FIELDS), **kwargs}
        return replace(defaults or cls(), **kwargs)

    @property
    def prompt_paths(self) -> dict[str, str]:
        """The prompt fields that are set, by option name."""
        return {name: getattr(self, name) for name in PROMPT_FIELDS if getattr(self, name)}

    @property
    def box_is_prompt(self) -> bool:
        """Whether the output's bounding box is the prompt's."""
        if self.box is not None:
            return self.box == "prompt"
        return self.in_place and self.clip is True


def _check_choice(name: str, value: Any, choices: tuple) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
