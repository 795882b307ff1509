"""Which documents of a job follow each other: frames of a video, images in order, views of one scene."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from itertools import accumulate

from fiftyone.core.collections import SampleCollection
from fiftyone.core.media import GROUP, VIDEO

from fiftyone_mobilesam import host
from fiftyone_mobilesam.prompts import LIST_LABELS
from mobilesam import FieldError

REACH = 50  # images before a label that wait for it, so that its object can be carried back to them: 4 MB each
Key = tuple[str, tuple[str, int | None]]  # id of a document, its video, the number of its frame


def flat(samples: SampleCollection) -> SampleCollection:
    """Return a collection of single images or videos: image slices of groups, labels of patches in their samples."""
    if host.is_dynamic_groups(samples):
        return host.before_grouping(samples)
    if samples.media_type == GROUP:
        kinds = set(samples.group_media_types.values())
        return samples.select_group_slices(media_type="image" if "image" in kinds else "video")
    if not host.is_patches(samples):
        return samples
    if len(fields := host.patched_fields(samples)) != 1:
        raise FieldError(f"A patches view must be of one field, got {fields}. Use to_patches(field).")
    [field] = fields
    kind = host.root_dataset(samples).get_field(field).document_type
    ids = samples.values(f"{field}.id")
    if kind not in LIST_LABELS:
        raise FieldError(f"A patches view must be of a field of lists, got {field!r} of {kind.__name__}.")
    return host.source_of(samples).select_labels(ids=ids, fields=field)


def dynamic_groups(samples: SampleCollection) -> list[list[Key]]:
    """Return the samples of each group of a view like `dataset.group_by("scene", order_by="frame_number")`."""
    if flat(samples).media_type == VIDEO:
        raise FieldError("A view by group_by must be of images, got videos. Leave group_by out: each is a sequence.")
    return [[(sample_id, ("", None)) for sample_id in group.values("id")] for group in samples.iter_dynamic_groups()]


def in_sequences(samples: SampleCollection, keys: Sequence[Key], *, is_video: bool) -> list[list[Key]]:
    """Divide the documents of `flat` samples into sequences, in order.

    A sequence is a run of frames of one video without a gap, the frames that a frames view has of a video, the slices
    of a group in the order of `group_slices`, or else all images.
    """
    dataset = host.own_dataset(samples)
    if is_video:
        found: list[list[Key]] = []
        for key in keys:
            path, number = key[1]
            if not found or found[-1][-1][1] != (path, number - 1):
                found.append([])
            found[-1].append(key)
        return found
    if host.is_patches(samples):
        raise FieldError("propagate=True must be on images or videos, got patches. Use the samples they are from.")
    if host.is_frames_view(samples):
        return _by(samples.values("sample_id"), keys)
    if dataset.group_field is not None:
        ids, slices = samples.values([f"{dataset.group_field}.id", f"{dataset.group_field}.name"])
        if len(set(slices)) > 1:
            order = {name: place for place, name in enumerate(dataset.group_slices)}
            places = {key: order[name] for key, name in zip(keys, slices, strict=True)}
            return [sorted(views, key=places.get) for views in _by(ids, keys)]
    return [list(keys)]


def settled_by(objects: Sequence[Collection[Hashable]]) -> list[int]:
    """Return for each image of a sequence the place of the last one whose labels may change its masks.

    That is itself, or where it lies between two labels of an object, the later one. `objects` are those that have a
    label, image by image. Never less than for the image before, so that images are settled in order.
    """
    places, last = list(range(len(objects))), {}
    for place, found in enumerate(objects):
        for name in found:
            for between in range(max(last.get(name, place) + 1, place - REACH), place):
                places[between] = place
            last[name] = place
    return list(accumulate(places, max))


def _by(names: Sequence[str], keys: Sequence[Key]) -> list[list[Key]]:
    found: dict[str, list[Key]] = defaultdict(list)
    for name, key in zip(names, keys, strict=True):
        found[name].append(key)
    return list(found.values())
