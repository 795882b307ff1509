"""What stays of the labels that are there when a run comes again. Pure functions on labels as the database holds them.

A label stays if it is of another prompt, or was drawn by hand; and if its own prompt is what it was, and either the
settings are too, so that it may have been corrected by hand, or somebody accepted it in review.
"""

import hashlib
import os
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import bson
from bson import ObjectId

from fiftyone_mobilesam.confidence import AS_MADE, is_own

# What a job writes beside its labels, in the same update.
JOURNAL = ("fingerprint", "failed_prompts", "made_from", "prompt_boxes")
LISTS = ("detections", "keypoints", "polylines")
# What no mask depends on: what runs write into a label, and what people decide about it.
MASK, SCORE = ("mask", "mask_path"), "stability_score"
SKELETON = ("points_outside", "implausible")  # of masks that a skeleton asked for
TRACK_CONFIDENCE = "track_confidence"  # of a mask that was carried on: the IoU with the true one to be expected
WRITTEN_BY_RUNS = (*MASK, "prompt_id", "predicted_iou", SCORE, "mask_quality", "pixels_moved")
WRITTEN_BY_RUNS += ("outline_iou", TRACK_CONFIDENCE, "failure", *SKELETON, *JOURNAL)
MEASURED = ("true_iou", "true_boundary_iou", AS_MADE, "changed")  # what is known of a mask from others
NOT_OF_A_PROMPT = (*WRITTEN_BY_RUNS, *MEASURED, "review", "retried", "run", "prompt_box")
OUTDATED = "outdated:"
# Tags: of the masks that `sample_to_check` drew, and of those that `accept` accepted unseen.
TO_CHECK, ACCEPTED = "to check", "auto accepted"

# The labels of prompt fields as the database holds them, by name of the field.
Prompts = dict[str, dict | None]


@dataclass(frozen=True)
class Stays:
    """What stays of a document's labels, whatever is made."""

    labels: dict[str, dict] = field(default_factory=dict)  # by prompt id, those of prompts that need no mask
    before: Sequence[dict] = ()  # labels of no prompt here, which stand before those of the prompts
    after: Sequence[dict] = ()  # the same, behind them
    hidden: dict[str, str] = field(default_factory=dict)  # what prompts that a view hides were made from: `made_from`

    def all(self) -> list[dict]:
        """Return all labels that stay."""
        return [*self.labels.values(), *self.before, *self.after]

    def written(self, made: list[dict], prompt_ids: Iterable[str] = ()) -> list[dict]:
        """Return the labels to write: those that stay and those that were made, in the order of the prompts."""
        if self.labels:  # what stays and what was made take turns
            by_prompt = {label["prompt_id"]: label for label in made} | self.labels
            made = [by_prompt[prompt_id] for prompt_id in prompt_ids]
        return [*self.before, *made, *self.after]


class Names(tuple):
    """What labels of a job are made from but their prompts: the name of today, then what earlier versions wrote.

    `masks` says whether the masks of the prompts count, which are refined then.
    """

    masks: bool

    def __new__(cls, names: Iterable[str], *, masks: bool = False) -> "Names":
        """Make it of texts."""
        made = super().__new__(cls, names)
        made.masks = masks
        return made

    def fingerprints(self, prompts: Prompts) -> list[str]:
        """Return what names the labels of these prompts; the first is written, the others are accepted."""
        return [f"{name}-{what}" for name in self for what in names_of(prompts, masks=self.masks)]

    def next_fingerprints(self, before: Sequence[str], prompts: Prompts) -> list[str]:
        """Return the names of a document in a sequence, which depend on all that came before."""
        (now, then, former), earlier = _names(prompts), before or [""] * 3
        return [
            f"{name}-{digest([was, what])}"
            for name, was, what in zip((self[0], self[-1], self[0]), earlier, (now, former, then), strict=True)
        ]

    def made(self, fingerprint: str) -> bool:
        """Whether labels of this fingerprint were made with these settings."""
        return fingerprint.startswith(tuple(self))


def what_stays(
    stored: dict | None,
    prompts: Prompts,
    *,
    same_settings: bool,
    hidden: Container[str] | None = (),
    in_place: bool = False,
    masks: bool = False,
) -> Stays:
    """Decide what stays of what is there.

    Args:
        stored: the value of the label field, with a job's journal in it if a job wrote it.
        prompts: as they are now, and as the view shows them.
        same_settings: whether the job that wrote it would make the same masks of the same prompts.
        hidden: ids of prompts that the view hides; None if labels of all prompts but `prompts` stay, as `merge` has it.
            What those of `prompts` were made from is not known then, so that what was accepted stays.
        in_place: the labels are the prompts.
        masks: the masks of the prompts count, see `Names`.
    """
    stored, now = stored or {}, prompt_names(prompts, masks=masks)
    before = stored.get("made_from") or {}
    own = _ids(prompts)
    usable = now if len(now) == len(_single_prompts(prompts)) else {}  # ids that are not unique name nothing
    labels = {
        label["prompt_id"]: label
        for label in listed(stored)
        if label.get("prompt_id") in usable
        and (_stays(label, usable[label["prompt_id"]], before, same_settings) or (hidden is None and _decided(label)))
    }
    was = {name: what for name, what in before.items() if hidden and name in hidden}
    was = was if same_settings else {name: outdated(what) for name, what in was.items()}
    if in_place:
        return Stays(labels, hidden=was)
    first, last = [], []
    for label in listed(stored):
        prompt_id = label.get("prompt_id")
        if prompt_id in own:
            first, last = first + last, []  # all others so far stand before a label of ours
        elif prompt_id is None or hidden is None or prompt_id in hidden:
            last.append(label)
    if not any(label.get("prompt_id") in own for label in listed(stored)):
        first, last = last, []
    return Stays(labels, first, last, was)


def _stays(label: dict, names: tuple[str, ...], before: dict[str, str], same_settings: bool) -> bool:
    """Return whether a label of a prompt stays, given the names of that prompt as it is now."""
    was = before.get(label["prompt_id"])
    if label.get("failure") is not None or not files_are_there(label):
        return False
    if label.get("review") == "accepted":
        return (was or "").removeprefix(OUTDATED) in names
    return same_settings and was in names


def _decided(label: dict) -> bool:
    return label.get("review") == "accepted" and files_are_there(label)


def is_own_work(label: dict, runs: Container[str]) -> bool:
    """Return whether a label is a person's: none of the runs that fill its field wrote it, or somebody accepted it."""
    run = label.get("run")
    made = run in runs if run is not None else is_of(label, None)
    return not made or label.get("review") == "accepted"


def is_of(label: dict, run: str | None) -> bool:
    """Return whether a run wrote a label: one of the App by its key; None for a job, which leaves none."""
    if run is not None or label.get("run") is not None:
        return label.get("run") == run
    return any(label.get(name) is not None for name in ("prompt_id", SCORE))


def looks_of(label: dict) -> str:
    """Return what names how a label looks and what was decided about it, to tell whether a person changed it since."""
    shape = [label.get(name) for name in (*MASK, "bounding_box", "label")]
    return digest([*shape, label.get("review") == "accepted"])


def prompt_names(prompts: Prompts, *, masks: bool = False) -> dict[str, tuple[str, ...]]:
    """Return by id what names each prompt's content: the name now, and what earlier versions called the same.

    Nothing of pairs of fields, or of fields of one label.
    """
    return {str(label["_id"]): names_of(label, masks=masks) for label in _single_prompts(prompts)}


def made_from(prompts: Prompts, *, masks: bool = False) -> dict[str, str]:
    """Return by id what names each prompt's content."""
    return {prompt_id: names[0] for prompt_id, names in prompt_names(prompts, masks=masks).items()}


def outdated(what: str) -> str:
    """Return an entry of `made_from` for a label that stays from a run with other settings."""
    return what if what.startswith(OUTDATED) else OUTDATED + what


def stable_id(unit_id: str, label_field: str, prompt_id: str | None, number: int) -> str:
    """Return an id that a label gets each time it is made: it names its place, its prompt and its field."""
    text = f"{unit_id}/{label_field}/{prompt_id}/{number}"
    return str(ObjectId(hashlib.sha256(text.encode()).digest()[:12]))


def digest(content: Any) -> str:
    """Return what names values of the database: 24 hexadecimal digits."""
    return hashlib.sha256(bson.encode({"content": content})).hexdigest()[:24]


def files_are_there(labels: dict) -> bool:
    """Return whether the files exist that a label, or each of its list, names."""
    paths = [label["mask_path"] for label in [labels, *listed(labels)] if label.get("mask_path")]
    return all(map(os.path.isfile, paths))


def listed(value: dict | None) -> list[dict]:
    """Return the labels of a list of labels; none of anything else."""
    return next((value[name] for name in LISTS if (value or {}).get(name)), [])


def known_object(instance_id: Any, label: str | None, index: int | None) -> tuple | None:
    """Return what makes two labels the same object, if anything does; FiftyOne numbers the objects of each class."""
    if instance_id is not None:
        return "instance", str(instance_id)
    return None if index is None else ("index", label, index)


def singles(value: dict | None) -> list[dict]:
    """Return the labels of a field's value: of a list, or the one that it is."""
    return [value] if value and "_id" in value else listed(value)


def _single_prompts(prompts: Prompts) -> list[dict]:
    """Return the labels that are a prompt each; none if there are pairs, or a field of one label."""
    return listed(next(iter(prompts.values()))) if len(prompts) == 1 else []


def _ids(prompts: Prompts) -> set[str]:
    """Return the ids of all labels in the prompt fields."""
    labels = (label for value in prompts.values() for label in listed(value) or [value or {}])
    return {str(label["_id"]) for label in labels if "_id" in label}


def names_of(value: Any, *, masks: bool = False) -> tuple[str, ...]:
    """Return what names a prompt, or all of a document; it changes exactly if a mask could. `masks`: see `Names`.

    What earlier versions called it comes after the name of today: those before 0.2 knew no reviews or tags.
    """
    now, then, former = _names(value, masks=masks)
    return tuple(dict.fromkeys((now, then) if masks else (now, then, former)))


def _names(value: Any, *, masks: bool = False) -> tuple[str, str, str]:
    """Return what `value` is called today, was called when all of its confidences counted, and before 0.2."""
    without = set(NOT_OF_A_PROMPT) - set(MASK) if masks else NOT_OF_A_PROMPT
    contents = (_content(value, without, own=False), _content(value, without))
    return *map(digest, contents), digest(_content(value, WRITTEN_BY_RUNS, tags=True))


def _content(value: Any, without: Container[str], *, tags: bool = False, own: bool = True) -> Any:
    """Return a label's content less what no mask depends on, in an order that does not depend on its history.

    Without `own`, less a confidence that a mask gave it, see `confidence.is_own`.
    """
    if isinstance(value, dict):
        how = {"tags": tags, "own": own}
        kept = {k: _content(v, without, **how) for k, v in sorted(value.items()) if k not in without}
        if not own and is_own(value):
            del kept["confidence"]
        if "tags" in kept and not tags:
            kept["tags"] = []  # as a label without any has it
        return {k: v for k, v in kept.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_content(item, without, tags=tags, own=own) for item in value]
    return value
