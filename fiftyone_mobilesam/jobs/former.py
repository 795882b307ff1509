"""Names that versions before 0.2 gave to what labels are made from: accepted, so that nobody's work is redone."""

from typing import Any

from fiftyone_mobilesam.engine import identity
from fiftyone_mobilesam.keep import digest
from fiftyone_mobilesam.options import Options
from mobilesam.weights import load_state_dict, resolve, sha256_of_state

# All options that there were, in their order: the name depends on it. Options that came later are not added.
FIELDS = ("prompt_field", "box_prompt_field", "point_prompt_field", "clip", "box", "multimask_output", "confidence")
FIELDS += ("point_confidence_thresh", "in_place", "merge", "min_region_area", "everything")


def former_name(options: Options, call: dict[str, Any]) -> str:
    """Return what a job of this call was named by: precision as it was asked for, folder, all tensors in the file."""
    weights = sha256_of_state(load_state_dict(resolve(call["weights"])))
    chosen = {name: getattr(options, name) for name in FIELDS}
    cached = call["cache_dir"] is not None
    return digest([1, chosen, weights, call["precision"], call["output_dir"], cached])


def former_merge(row_id: str, records: list[str], options: Options) -> str:
    """Return the fingerprint that a merge of shards wrote."""
    return f"{row_id}-{identity.digest([records, {name: getattr(options, name) for name in FIELDS}])}"
