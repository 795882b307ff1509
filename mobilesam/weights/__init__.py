"""Weight files: the bundled one, the official one, and any checkpoint in upstream's layout. Knows dicts, not models."""

from mobilesam.weights.files import (
    BUNDLED,
    UNUSED_SHAPES,
    absolute_weights,
    check_layout,
    load_state_dict,
    resolve,
    save_checkpoint,
    sha256_of,
    sha256_of_state,
    used_tensors,
)
from mobilesam.weights.official import OFFICIAL_SHA256, download
