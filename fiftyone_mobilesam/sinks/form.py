"""How a dataset holds an outcome: labels with stable ids, and the journal of a job beside them."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
from PIL import Image

from fiftyone_mobilesam.engine.item import Answer, LoadedImage, Outcome, failed
from fiftyone_mobilesam.engine.labeller import Labeller
from fiftyone_mobilesam.fields import FRAMES
from fiftyone_mobilesam.keep import LISTS, Names, Prompts, listed, made_from, stable_id
from fiftyone_mobilesam.labels import failures_of, found_detections, implausible_of, labels_of
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import LabelPrompt, label_prompts, single_labels
from fiftyone_mobilesam.sources.dataset import DatasetItem

PART_OF_A_SAMPLE = "-part"
# Prompts, and what they come to in the image -> an answer each.
Answers = Callable[[Sequence[LabelPrompt], Sequence[Answer]], Iterable[Answer]]


@dataclass(frozen=True)
class Written:
    """What is written of an item."""

    labels: dict[str, Any]  # what the database will hold, its journal included
    pngs: dict[str, bytes | None]  # name of a mask's file -> its content, None for one that stays as it is


@dataclass(eq=False)
class DatasetForm:
    """Labels for a field of a dataset."""

    label_field: str  # without "frames."
    options: Options
    names: Names  # what all labels of the run are made from
    output_dir: str | None = None  # absolute folder for masks; None to keep them in the database

    def mask_folder(self, unit_id: str) -> Path:
        """Return the folder for the mask files of a sample or frame."""
        return Path(self.output_dir, self.label_field, unit_id)

    def outcome(self, item: DatasetItem, image: LoadedImage, labeller: Labeller) -> Outcome:
        """Label an item."""
        if image.pixels is None:
            return failed(item, image.failure)
        original_hw = image.pixels.shape[:2]
        if not self.options.prompt_paths:
            found = found_detections(labeller.everything(image.pixels), original_hw=original_hw)
            return self.written(item, fo.Detections(detections=found), found)
        return self.answered(item, original_hw, lambda _, asked: labeller.answers(image.pixels, asked))

    def values(self, item: DatasetItem, *, all_of_them: bool = False, boxes: dict[str, Any] | None = None) -> dict:
        """Return the labels in an item's prompt fields, by name of the option, less those that stay.

        With `all_of_them` those too; `boxes` are, by id, put in place of theirs.
        """
        without = () if all_of_them else item.stays.labels
        values = {
            option: as_label(item.prompts[path.removeprefix(FRAMES)], without=without)
            for option, path in self.options.prompt_paths.items()
        }
        for label in single_labels(values.get("prompt_field")) if boxes else ():
            label.bounding_box = boxes.get(label.id, label.bounding_box)
        return values

    def answered(self, item: DatasetItem, original_hw: tuple[int, int], answers: Answers) -> Outcome:
        """Return the outcome of an item from what `answers` gives for its prompts, less those whose labels stay."""
        values = self.values(item)
        prompts = label_prompts(values, self.options)
        asked = [prompt.ask(original_hw) for prompt in prompts]
        made = labels_of(prompts, answers(prompts, asked), self.options, original_hw=original_hw)
        in_place = self.options.in_place and values["prompt_field"] is not None
        return self.written(item, values["prompt_field"] if in_place else fo.Detections(detections=made), made)

    def written(self, item: DatasetItem, label: fo.Label, made: list[fo.Detection], **tracks: Any) -> Outcome:
        """Name the labels, move masks to disk, join them with what stays, and write the journal beside them."""
        options, stays = self.options, item.stays
        if not options.in_place:
            self._name(item, made)
        failures = failures_of(item, made)
        pngs = {} if self.output_dir is None else dict(self._to_disk(item, d) for d in made if d.mask is not None)
        pngs |= {Path(label["mask_path"]).name: None for label in stays.all() if label.get("mask_path")}
        labels = label.to_dict()
        if isinstance(label, fo.Detections):
            labels["detections"] = stays.written(labels["detections"], made_from(item.prompts, masks=self.names.masks))
        # In place the prompts have changed now: their boxes may lie on whole pixels.
        prompts = {name: labels for name in item.prompts} if options.in_place else item.prompts
        labels["fingerprint"] = self.fingerprint(item, prompts)
        labels["made_from"] = {} if item.fingerprint else stays.hidden | made_from(prompts, masks=self.names.masks)
        labels["failed_prompts"] = len(failures)
        if options.in_place:
            labels["prompt_boxes"] = _boxes(item.prompts) | item.boxes
        return Outcome(
            item.key,
            Written(labels, pngs),
            len(made) - len(failures),
            failures,
            implausible_of(made),
            empty=not made and not stays.labels,
            unchanged=item.fingerprint is not None and labels["fingerprint"] == item.stored,
            **tracks,
        )

    def _name(self, item: DatasetItem, made: list[fo.Detection]) -> None:
        """Give labels the ids that they have whenever they are made."""
        numbers: Counter = Counter()
        for detection in made:
            prompt_id = detection.get_attribute_value("prompt_id", None)
            detection.id = stable_id(item.key, self.label_field, prompt_id, numbers[prompt_id])
            numbers[prompt_id] += 1

    def fingerprint(self, item: DatasetItem, prompts: Prompts) -> str:
        """Return what names the labels of an item."""
        # A job on all prompts must look closer at a document whose labels a view has made in part.
        return self.names.fingerprints(prompts)[0] + (PART_OF_A_SAMPLE if item.stays.hidden else "")

    def _to_disk(self, item: DatasetItem, detection: fo.Detection) -> tuple[str, bytes]:
        """Take a detection's mask out: the name and content of its PNG."""
        content, name = io.BytesIO(), f"{detection.id}.png"
        Image.fromarray(detection.mask.astype("uint8") * 255).save(content, "PNG")
        detection.mask, detection.mask_path = None, str(self.mask_folder(item.key) / name)
        return name, content.getvalue()


def _boxes(prompts: Prompts) -> dict[str, Any]:
    """Return by id the boxes of labels that are filled in place, for undo: a run moves them to whole pixels."""
    [value] = prompts.values()
    return {str(label["_id"]): label.get("bounding_box") for label in listed(value) or [value]}


def as_label(value: dict | None, *, without: Iterable[str] = ()) -> fo.Label | None:
    """Return a value of the database as a label, less those of some ids."""
    if value is None:
        return None
    if without:
        [name] = value.keys() & set(LISTS)
        value = {**value, name: [label for label in value[name] if str(label["_id"]) not in without]}
    return getattr(fo, value["_cls"]).from_dict(deepcopy(value))  # FiftyOne puts objects into what it is given
