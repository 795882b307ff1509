"""A run into a field that has labels: they stay unless somebody says otherwise, and what is replaced can come back."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import fiftyone as fo
import fiftyone.core.utils as fou
from bson import ObjectId
from fiftyone import ViewField as F
from fiftyone.core.collections import SampleCollection
from fiftyone.core.media import VIDEO

from fiftyone_mobilesam import host
from fiftyone_mobilesam.engine.report import count
from fiftyone_mobilesam.fields import FRAMES, Target, labels_path
from fiftyone_mobilesam.keep import is_own_work, singles
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.replaced import Found, Replaced
from fiftyone_mobilesam.runs import runs_into
from mobilesam import FieldError

KEEP, REPLACE = "merge", "replace"
SEEN = ("run", "prompt_id", "stability_score", "review", "_id")  # of a label, by which a person's is known
ASKED_AT_ONCE = 10_000


def choices(samples: SampleCollection, label_field: str, options: Options) -> tuple[str, ...]:
    """Return what may become of labels, in place of masks, that a field has: (), both, or they can only be replaced."""
    if not _exists(samples, label_field) or next(_at_risk(samples, label_field, options), None) is None:
        return ()
    return (KEEP, REPLACE) if options.in_place or _can_keep(samples, options) else (REPLACE,)


def settle(
    samples: SampleCollection,
    label_field: str,
    options: Options,
    *,
    existing: str | None = None,
    replace_own_work: bool = False,
) -> tuple[SampleCollection, Options]:
    """Return the samples and options of a run that does with the labels in its field what was chosen.

    Args:
        existing: "merge" keeps labels of other prompts, those drawn by hand and those accepted; in place, all masks.
            "replace" replaces all. Default: they are kept.
        replace_own_work: labels that no run wrote, or that somebody accepted, may be replaced too.

    Raises:
        FieldError: labels would be replaced without a word that they may be.
    """
    offered = choices(samples, label_field, options)
    if offered and existing != REPLACE and KEEP not in offered:
        raise FieldError(
            f"label_field must be new, got {label_field!r}, which has labels; they can be kept only in images with "
            "prompts. Use another name, or choose 'Replace all labels' (existing=\"replace\")."
        )
    if KEEP in offered and existing != REPLACE and options.in_place:
        return without_masks(samples, label_field), options
    options = merging(options, offered, existing)
    if offered and not replace_own_work and (number := own_work(samples, label_field, options)):
        raise FieldError(
            f"label_field must hold nothing but labels of earlier runs, got {label_field!r}, where "
            f"{count(number, 'label')} would be replaced that no run wrote, or that somebody accepted. Use another "
            "name, or say yes to it (replace_own_work=True)."
        )
    return samples, options


def merging(options: Options, offered: tuple[str, ...], existing: str | None) -> Options:
    """Return the options of a run, which keeps labels of other prompts if it can and nothing else was chosen."""
    merges = KEEP in offered and existing != REPLACE and not options.in_place
    return replace(options, merge=True) if merges else options


def own_work(samples: SampleCollection, label_field: str, options: Options) -> int:
    """Count the labels that a run would replace though they are a person's work, see `keep.is_own_work`."""
    runs = runs_into(host.root_dataset(samples), _root_path(samples, label_field))
    labels = (label for label in _at_risk(samples, label_field, options) if is_own_work(label, runs))
    if options.merge:  # which replaces labels of the same prompts only, and none that were accepted
        return sum(label.get("prompt_id") is not None and label.get("review") != "accepted" for label in labels)
    return sum(1 for _ in labels)


def without_masks(samples: SampleCollection, field: str) -> SampleCollection:
    """Return a view of the labels that have no mask."""
    path = labels_path(samples, field)
    nothing = [~F(name).exists() for name in ("mask", "mask_path") if samples.get_field(f"{path}.{name}") is not None]
    return samples.filter_labels(field, F.all(nothing)) if nothing else samples


def keeper(samples: SampleCollection, label_field: str, key: str, *, in_place: bool) -> Callable[..., None] | None:
    """Return what keeps what a run replaces, as `before_write` of its model; None if its field is new."""
    if not _exists(samples, label_field):
        return None
    target, kept = Target(samples, label_field), Replaced(host.root_dataset(samples), key)
    kept.forget()
    of_patches = "frame_id" if _root_path(samples, label_field).startswith(FRAMES) else "sample_id"

    def keep(sample: Any, label: fo.Label | None) -> None:
        if label is not None:
            unit_id = str(sample[of_patches]) if host.is_patches(samples) else sample.id
            kept.keep(Found.of(unit_id, target.stored(sample.id), label.to_dict(), key, in_place=in_place))

    return keep


def _at_risk(samples: SampleCollection, label_field: str, options: Options) -> Iterator[dict]:
    """Yield from the labels that there are what tells a person's from a run's: in place, of those that have a mask."""
    name, on_frames = label_field.removeprefix(FRAMES), samples.media_type == VIDEO
    path = labels_path(samples, FRAMES + name if on_frames else name)
    wanted = [{"$project": {f"{path.removeprefix(FRAMES)}.{seen}": 1 for seen in SEEN}}]
    if options.in_place:
        has_mask = [
            F(mask).exists() for mask in ("mask", "mask_path") if samples.get_field(f"{path}.{mask}") is not None
        ]
        view = (
            samples.filter_labels(path.removesuffix(".detections"), F.any(has_mask)) if has_mask else samples.limit(0)
        )
        found: Any = host.aggregate(view, wanted, frames=on_frames)
    else:
        found = _documents(samples, wanted, on_frames)
    yield from (label for document in found for label in singles(document.get(name)))


def _documents(samples: SampleCollection, wanted: list[dict[str, Any]], on_frames: bool) -> Iterator[dict]:
    """Yield documents of the samples, with what a view hides of their labels."""
    documents = host.documents(host.own_dataset(samples), frames=on_frames)
    ids = samples.values("frames.id", unwind=True) if on_frames else samples.values("id")
    for some in fou.iter_slices(ids, ASKED_AT_ONCE):
        yield from documents.aggregate([{"$match": {"_id": {"$in": [ObjectId(i) for i in some if i]}}}, *wanted])


def _can_keep(samples: SampleCollection, options: Options) -> bool:
    return bool(options.prompt_paths) and samples.media_type != VIDEO


def _exists(samples: SampleCollection, label_field: str) -> bool:
    name = label_field.removeprefix(FRAMES)
    return samples.get_field(FRAMES + name if samples.media_type == VIDEO else name) is not None


def _root_path(samples: SampleCollection, label_field: str) -> str:
    """Return the path of a label field in the dataset that keeps the run's record."""
    of_frames = samples.media_type == VIDEO or host.is_frames_view(samples)
    return FRAMES + label_field.removeprefix(FRAMES) if of_frames else label_field
