"""Which fields a run reads and writes: checked before the first image, declared for the App after the last."""

from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam import host
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import LIST_LABELS, PROMPT_LABELS
from mobilesam import FieldError

FRAMES = "frames."
BOX_FIELD_LABELS = (fo.Detections, fo.Detection, fo.Polylines, fo.Polyline)
POINT_FIELD_LABELS = (fo.Keypoints, fo.Keypoint)
ACCEPTED = {
    "prompt_field": PROMPT_LABELS,
    "box_prompt_field": BOX_FIELD_LABELS,
    "point_prompt_field": POINT_FIELD_LABELS,
}
SEGMENTATION = (
    "Make its regions labels first: fiftyone.utils.labels.segmentations_to_detections(dataset, {0!r}, 'regions'); then "
    "prompt_field='regions' makes them again from their boxes, with refine=True from their own pixels too."
)


@dataclass(frozen=True, eq=False)
class Target:
    """What `apply_model` was called on."""

    samples: SampleCollection
    label_field: Any  # where the masks go
    skip_failures: bool = True  # whether the caller wants to hear of failures afterwards only
    field_mapping: dict[str, str] = field(default_factory=dict)  # by which prompt fields can be named too

    @classmethod
    def find(cls) -> "Target | None":
        """Return the target of the `apply_model` call that is running, or None. FiftyOne tells a model neither."""
        found = host.running_apply_model()
        if found is None:
            return None
        mapping = found.get("field_mapping") or {}
        return cls(found["samples"], found["label_field"], found.get("skip_failures", True), mapping)

    @property
    def is_video(self) -> bool:
        """Whether the labels are on frames of videos."""
        return self.samples.media_type == fo.core.media.VIDEO

    def check(self, options: Options) -> None:
        """Check every field that the run reads and writes; a FieldError says what was expected and what to do."""
        for name, path in options.prompt_paths.items():
            self._check_prompt_field(name, path)
        self._check_label_field(options)

    def prepare(self) -> None:
        """Declare a new label field of a frames view beforehand, on the frames of its videos too.

        Without workers FiftyOne 1.22 would write such labels and then not know the field in either schema.
        """
        dataset, name = host.own_dataset(self.samples), self.label_field
        if host.is_frames_view(self.samples) and name not in dataset.get_field_schema():
            kind = {"ftype": fo.EmbeddedDocumentField, "embedded_doc_type": fo.Detections}
            host.root_dataset(self.samples).add_frame_field(name, **kind)
            dataset.add_sample_field(name, **kind)

    def stored(self, sample_id: str) -> dict | None:
        """Return what the label field of a sample, or a frame of a video, holds, whatever the view hides of it."""
        name, documents = self.label_field.removeprefix(FRAMES), host.documents
        of = documents(host.own_dataset(self.samples), frames=self.is_video)
        return (of.find_one({"_id": ObjectId(sample_id)}, {name: 1}) or {}).get(name)

    def sync(self, sample_ids: list[str]) -> None:
        """Copy the labels of a frames or patches view to its source once more, after the run.

        FiftyOne 1.22 does it during the run, in a thread, and can miss some: a sample whose write is queued while the
        thread copies another's is ticked off as copied without having been written.
        """
        if host.is_generated(self.samples) and not self.is_video:
            host.sync_source(self.samples, sample_ids)

    def declare(self) -> None:
        """Declare the attributes of the labels that were written, so that the App can show and filter them."""
        dataset, name = host.own_dataset(self.samples), self.label_field.removeprefix(FRAMES)
        if self.is_video:
            if name in dataset.get_frame_field_schema():
                dataset.add_dynamic_frame_fields(fields=name)
        elif name in dataset.get_field_schema():
            dataset.add_dynamic_sample_fields(fields=name)

    def _check_prompt_field(self, name: str, path: str) -> None:
        accepted, kind, wrong = ACCEPTED[name], _label_type(self.samples, path), None
        if kind is None:
            wrong = f"a field of labels, got {path!r}, which has none"
        elif kind not in accepted:
            wrong = f"a field of {', '.join(label.__name__ for label in accepted)}, got {path!r} of {kind.__name__}"
            if kind is fo.Segmentation:
                raise FieldError(f"{name} must be {wrong}. {SEGMENTATION.format(path)}")
        elif self.is_video and not path.startswith(FRAMES):
            wrong = f"a frame field, got {path!r} on a video dataset"
        if wrong is not None:
            raise FieldError(f"{name} must be {wrong}. {self._suggest(accepted)}")

    def _check_label_field(self, options: Options) -> None:
        field, prompts = self.label_field, [path.removeprefix(FRAMES) for path in options.prompt_paths.values()]
        if not isinstance(field, str):
            raise FieldError(f"label_field must be one field name, got {field!r}. All masks go into one field.")
        name = field.removeprefix(FRAMES)
        if name != field and not self.is_video:
            raise FieldError(
                f"label_field must have no {FRAMES!r} where samples are images, got {field!r}. Use {name!r}."
            )
        if options.in_place:
            kind = _label_type(self.samples, options.prompt_field) if options.prompt_field else None
            if prompts != [name] or kind not in (fo.Detections, fo.Detection):
                raise FieldError(
                    f"in_place=True must have label_field and prompt_field be one field of Detections, got "
                    f"{field!r} and {', '.join(prompts)!r}. Use the same name for both, or leave in_place out."
                )
            return
        if name in prompts:
            raise FieldError(
                f"label_field must not be a prompt field, got {field!r} for both, which would overwrite the prompts. "
                f"Pass in_place=True to add masks to them, or another label_field such as {name + '_masks'!r}."
            )
        path = FRAMES + name if self.is_video else name
        kind, exists = _label_type(self.samples, path), self.samples.get_field(path) is not None
        if exists and kind is not fo.Detections:
            raise FieldError(
                f"label_field must be new or a field of Detections, got {field!r} of another type. Use another name."
            )
        if options.merge and (self.is_video or not prompts):
            raise FieldError(
                f"merge=True must go with prompts in images, got {'a video dataset' if prompts else 'no prompts'}. "
                "Leave it out and use a new label_field."
            )
        if exists and not prompts and not self._holds_everything(name):
            raise FieldError(
                f"label_field must be new to segment everything, got {field!r}, whose labels would be overwritten. "
                f"Use another name, or name the prompts in prompt_field. {self._suggest(PROMPT_LABELS)}"
            )
        if host.is_patches(self.samples):
            raise FieldError(
                f"A patches view keeps new fields to itself: label_field={field!r} would not reach the dataset. "
                "Pass in_place=True with label_field the patches' own field, or select the labels with "
                "dataset.select_labels(...) instead of to_patches()."
            )

    def _holds_everything(self, name: str) -> bool:
        """Whether a field was written by an earlier run without prompts."""
        dataset = host.own_dataset(self.samples)
        schema = dataset.get_frame_field_schema if self.is_video else self.samples.get_field_schema
        written = {path.removeprefix(f"{name}.detections.") for path in schema(flat=True)}
        return "stability_score" in written and "prompt_id" not in written

    def _suggest(self, accepted: tuple) -> str:
        fields = ", ".join(label_fields(self.samples, accepted))
        return (
            f"Fields that fit: {fields}." if fields else "No field of this dataset fits: add boxes or keypoints first."
        )


def label_fields(samples: SampleCollection, accepted: tuple = PROMPT_LABELS) -> list[str]:
    """Return the names of the fields whose labels can be prompts, frame fields with their `frames.` prefix."""
    names = [] if samples.media_type == fo.core.media.VIDEO else list(samples.get_field_schema())
    names += [FRAMES + name for name in samples.get_frame_field_schema() or {}]
    return [name for name in names if _label_type(samples, name) in accepted]


def labels_path(samples: SampleCollection, field: str) -> str:
    """Return the path of the single labels in a field: `masks.detections`, or the field itself if it holds one."""
    attribute = LIST_LABELS.get(_label_type(samples, field))
    return field if attribute is None else f"{field}.{attribute}"


def _label_type(samples: SampleCollection, path: str) -> type | None:
    return getattr(samples.get_field(path), "document_type", None)
