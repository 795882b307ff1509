"""What a job keeps beside the labels it writes, and which labels stay when it comes again."""

import hashlib
import os
from collections.abc import Container, Sequence
from typing import Any

import bson
import fiftyone as fo
from bson import ObjectId
from pymongo.collection import Collection

from fiftyone_mobilesam.labels import ATTRIBUTES
from fiftyone_mobilesam.prompts import LIST_LABELS
from mobilesam import FieldError

JOURNAL = {"fingerprint": fo.StringField, "failed_prompts": fo.IntField, "made_from": fo.DictField}
NOT_PROMPTS = {"mask", "mask_path", *JOURNAL, *ATTRIBUTES}  # no mask depends on these
ASKED_AT_ONCE = 10_000  # ids in one query
OUTDATED = "outdated:"

# The labels of a prompt field as the database holds them, by name of the field.
Prompts = dict[str, dict | None]


def stable_id(unit_id: str, label_field: str, prompt_id: str | None, number: int) -> str:
    """Return an id that a label gets each time it is made: it names its place, its prompt and its field."""
    text = f"{unit_id}/{label_field}/{prompt_id}/{number}"
    return str(ObjectId(hashlib.sha256(text.encode()).digest()[:12]))


def digest(content: Any) -> str:
    """Return what names plain data: 24 hexadecimal digits."""
    return hashlib.sha256(bson.encode({"content": content})).hexdigest()[:24]


def digest_of_prompts(prompts: Prompts) -> str:
    """Return what names prompts: it changes exactly if a mask could."""
    return digest(_content(prompts))


def made_from(prompts: Prompts) -> dict[str, str]:
    """Return what names each prompt's content, by its id; nothing of pairs of fields, or of fields of one label."""
    return {str(label["_id"]): digest(_content(label)) for label in _single_prompts(prompts)}


def kept_labels(prompts: Prompts, stored: dict, *, same_settings: bool) -> dict[str, dict]:
    """Return by prompt id the labels of an earlier run that stay.

    Their prompts are what they were, and either the settings are as well, or somebody has accepted the mask in review.

    Args:
        prompts: as they are now.
        stored: the value of the label field, with the job's journal.
        same_settings: whether nothing but prompts has changed.
    """
    now, before = made_from(prompts), stored.get("made_from") or {}
    if len(now) != len(_single_prompts(prompts)):  # ids that are not unique name nothing
        return {}
    return {
        prompt_id: label
        for label in _listed(stored)
        if (prompt_id := label.get("prompt_id")) in now
        and label.get("failure") is None
        and files_are_there(label)
        and before.get(prompt_id) in (what := (now[prompt_id], outdated(now[prompt_id])))
        and (label.get("review") == "accepted" or (same_settings and before[prompt_id] == what[0]))
    }


def labels_of_others(stored: dict, hidden: Container[str]) -> list[dict]:
    """Return the labels that were drawn by hand, and those of prompts that a view hides."""
    return [label for label in _listed(stored) if label.get("prompt_id") is None or label["prompt_id"] in hidden]


def outdated(what: str) -> str:
    """Return an entry of `made_from` for a label that stays from a run with other settings."""
    return what if what.startswith(OUTDATED) else OUTDATED + what


def files_are_there(labels: dict) -> bool:
    """Return whether the files exist that a label, or each of its list, names."""
    paths = [label["mask_path"] for label in [labels, *_listed(labels)] if label.get("mask_path")]
    return all(map(os.path.isfile, paths))


def check_owner(collection: Collection, ids: Sequence[str], label_field: str) -> None:
    """Check that the labels of samples or frames are a job's own, so that it may replace them.

    Raises:
        FieldError: there are others.
    """
    others = 0
    for start in range(0, len(ids), ASKED_AT_ONCE):
        wanted = {
            "_id": {"$in": [ObjectId(unit_id) for unit_id in ids[start : start + ASKED_AT_ONCE]]},
            f"{label_field}.detections.0": {"$exists": True},
            f"{label_field}.fingerprint": {"$exists": False},
        }
        others += collection.count_documents(wanted)
    if others:
        raise FieldError(
            f"label_field must be new or a job's own, got {label_field!r}, where {others} of {len(ids)} samples have "
            "labels that no job wrote. Use another name, or pass overwrite=True to have them replaced."
        )


def _single_prompts(prompts: Prompts) -> list[dict]:
    """Return the labels that are a prompt each; none if there are pairs, or a field of one label."""
    return _listed(next(iter(prompts.values()))) if len(prompts) == 1 else []


def _listed(value: dict | None) -> list[dict]:
    return next((value[name] for name in LIST_LABELS.values() if name in (value or {})), [])


def _content(value: Any) -> Any:
    """Return a label's content without what a job writes into it, in an order that does not depend on its history."""
    if isinstance(value, dict):
        return {k: _content(v) for k, v in sorted(value.items()) if k not in NOT_PROMPTS and v is not None}
    return [_content(item) for item in value] if isinstance(value, (list, tuple)) else value
