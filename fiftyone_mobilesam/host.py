"""Every private name of FiftyOne that this package uses, and why. A test forbids them elsewhere.

None of them has a public twin in the versions below. When FiftyOne changes, this is the file to look at. "Since" names
the oldest version that has the names, of those whose source was searched: 0.7.4, 0.9.4, 0.11.2, 0.12 to 0.16, 0.18,
0.20, 0.21, 0.23 and 1.0.
"""

import sys
from collections.abc import Sequence
from typing import Any

import fiftyone as fo
import fiftyone.zoo.models
from fiftyone.core.collections import SampleCollection
from fiftyone.core.frame import Frame
from fiftyone.core.sample import Sample
from pymongo.collection import Collection
from pymongo.database import Database

TESTED_WITH = ("1.22.1",)  # the versions of FiftyOne that all tests passed with


def root_dataset(samples: SampleCollection) -> fo.Dataset:
    """Return the dataset that persists: of patches, clips and frames the one they were made from. Since 0.9.4."""
    return samples._root_dataset


def own_dataset(samples: SampleCollection) -> fo.Dataset:
    """Return the dataset that holds a collection's fields: of patches, clips and frames a temporary. Since 0.7.4."""
    return samples._dataset


def is_patches(samples: SampleCollection) -> bool:
    """Whether each sample is a label of another dataset. Since 0.9.4."""
    return samples._dataset._is_patches


def is_frames_view(samples: SampleCollection) -> bool:
    """Whether each sample is a frame of a video. Since 0.9.4."""
    return samples._dataset._is_frames


def is_generated(samples: SampleCollection) -> bool:
    """Whether this is a view of patches, clips or frames. Since 0.16."""
    return samples._is_generated


def is_dynamic_groups(samples: SampleCollection) -> bool:
    """Whether this is a view by `group_by`. Since 0.21."""
    return samples._is_dynamic_groups


def before_grouping(samples: SampleCollection) -> SampleCollection:
    """Return what `group_by` was called on, all images of all groups. Since 0.7.4."""
    view = samples._dataset.view()
    for stage in samples._stages:
        if isinstance(stage, fo.GroupBy):
            break
        view = view.add_stage(stage)
    return view


def source_of(samples: SampleCollection) -> SampleCollection:
    """Return the collection that patches, clips or frames were made from. Since 0.9.4."""
    return samples._source_collection


def patched_fields(samples: SampleCollection) -> list[str]:
    """Return the fields whose labels a patches view shows. Since 0.9.4."""
    return samples._label_fields


def sync_source(samples: SampleCollection, ids: Sequence[str]) -> None:
    """Copy labels of a patches or frames view to its source; FiftyOne's own copy can miss some. Since 1.0."""
    samples._sync_source(ids=ids)


def stages(samples: SampleCollection) -> list[dict[str, Any]]:
    """Return the stages of a view as plain data, by which two views are known as the same. Since 0.9.4."""
    return samples.view()._serialize(include_uuids=False)


def database() -> Database:
    """Return FiftyOne's database, for updates that must be one step. `fo.core.odm` is not documented. Since 0.7.4."""
    return fo.core.odm.get_db_conn()


def documents(dataset: fo.Dataset, *, frames: bool = False) -> Collection:
    """Return the documents of a dataset's samples, or of its frames. Since 0.7.4."""
    return database()[dataset._frame_collection_name if frames else dataset._sample_collection_name]


def aggregate(samples: SampleCollection, pipeline: list[dict[str, Any]], *, frames: bool = False) -> list[dict]:
    """Return documents as a view shows them, which `documents` does not do. Since 0.18."""
    return list(samples._aggregate(post_pipeline=pipeline, attach_frames=frames, frames_only=frames))


def reload_documents(dataset: fo.Dataset, ids: list[str], *, frames: bool = False) -> None:
    """Let samples or frames in memory see what was written past them. Since 0.15."""
    if frames:
        Frame._reload_docs(dataset._frame_collection_name, frame_ids=ids)
    else:
        Sample._reload_docs(dataset._sample_collection_name, sample_ids=ids)


def zoo_models() -> list[Any]:
    """Return all models of the zoo; by name, one at a time, FiftyOne reads all manifests for each. Since 1.0."""
    return list(fo.zoo.models._load_zoo_models_manifest()[0])


def dataset_key(dataset: fo.Dataset) -> str:
    """Return what names a dataset even after it was renamed. Since 0.7.4."""
    return str(dataset._doc.id)


def running_apply_model() -> dict[str, Any] | None:
    """Return the arguments of the `apply_model` call that is running, `samples` and `label_field` among them, or None.

    FiftyOne tells a model neither, and both are needed to refuse a wrong field before the first image and to declare
    attributes after the last. `skip_failures` it does not tell either, and `field_mapping` too late. So they are read
    from the frame of `fiftyone.core.models.apply_model`. Since 0.7.4, `field_mapping` since 1.22.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "apply_model" and frame.f_globals.get("__name__") == "fiftyone.core.models":
            return dict(frame.f_locals)
        frame = frame.f_back
    return None
