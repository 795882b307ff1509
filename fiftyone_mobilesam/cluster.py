"""Several machines, on Ray: a manifest goes in, shards of records come out, a merge brings them home.

Names are imported when they are used: `label_manifest` needs Ray and no FiftyOne, the merge FiftyOne and no Ray.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "write_manifest": "sources.manifest",
    "write_coco_manifest": "sources.manifest",
    "label_manifest": "jobs.ray",
    "merge_into_dataset": "jobs.merge_dataset",
    "merge_coco": "jobs.merge_coco",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"fiftyone_mobilesam.{_HOMES[name]}"), name)
