"""What a mask was made from, as a short name: two masks with the same name and prompt are the same mask.

The name has the version of the numbers, the weights that the model uses, the precision as it was resolved, and the
options that are not the defaults. So a new option redoes nobody's work, and "auto" means what it came to. What earlier
versions wrote for the same is accepted wherever names are compared; `tests/unit/test_identity.py` pins all of it.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fiftyone_mobilesam.options import PROMPT_FIELDS, MaskOptions
from mobilesam.weights import HEADS, load_state_dict, resolve, sha256_of, sha256_of_state, used_tensors

# Raise it when the same weights, options and prompt come to give another mask: then all masks are made again.
NUMBERS = 1
DTYPES = {"fp32": "torch.float32", "bf16": "torch.bfloat16"}
HAVE_A_PLACE = ("clip", "multimask_output")
OF_A_RUN = (*PROMPT_FIELDS, "merge", "on_error")  # what the prompts are is named with them


def digest(content: Any) -> str:
    """Return what names plain data, 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def identity(weights_sha256: str, precision: str, options: MaskOptions, *, cached: bool, **others: Any) -> str:
    """Return the name of all that masks are made from but their prompts.

    `cached` says whether embeddings are rounded for a cache, wherever it is; `others` what else the result depends on,
    None where it is the default.
    """
    # The first five have been there from the beginning; whatever came later is named, and only where it is not usual.
    later = {name: value for name, value in others.items() if value is not None}
    later |= {k: v for k, v in options.changed().items() if k not in (*HAVE_A_PLACE, *OF_A_RUN)}
    later |= {"numbers": NUMBERS} if NUMBERS > 1 else {}
    later |= {"heads": sha256_of(HEADS)} if options.quality == "best" else {}
    first = [weights_sha256, DTYPES[precision], options.clip, options.multimask_output, cached]
    return digest(first + ([later] if later else []))


def name_of_weights(weights: str | Path) -> str:
    """Return the SHA-256 of the tensors that the model uses: the official file's and the bundled one's are the same."""
    return sha256_of_state(used_tensors(load_state_dict(resolve(weights))))


def resolved_precision(precision: str, devices: Sequence[str | None]) -> str:
    """Return what a precision comes to, "fp32" or "bf16". It must be the same on all devices."""
    if precision == "fp32":  # without torch
        return precision
    from mobilesam.fast.backend import resolve_precision

    found = {resolve_precision(precision, device) for device in devices}
    if len(found) > 1:
        raise ValueError(
            f"precision must be the same on all devices, got {precision!r}, which is bf16 on some of "
            f"{', '.join(map(str, devices))} and fp32 on others. Name one, or run a job on each kind."
        )
    return found.pop()
