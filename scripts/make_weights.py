"""Turn a `mobile_sam.pt` into the safetensors file that the package ships.

Usage: python scripts/make_weights.py mobile_sam.pt [--output mobilesam/assets/mobile_sam.safetensors]
The same input gives the same bytes, so anyone can check the SHA-256 in mobilesam/assets/PROVENANCE.md.
"""

import argparse
import hashlib
import json
import pickle
import struct
import sys
from pathlib import Path

import torch
from safetensors.torch import save

UNUSED = ("image_encoder.head.", "image_encoder.norm_head.")  # ImageNet classifier, never called by SAM
LAYOUT = "upstream MobileSAM, classifier head dropped"
DEFAULT_OUTPUT = Path(__file__).resolve().parents[1] / "mobilesam" / "assets" / "mobile_sam.safetensors"


def sorted_header(blob: bytes) -> bytes:
    """Rewrite the header with sorted keys: the safetensors writer orders metadata by a random hash."""
    (length,) = struct.unpack("<Q", blob[:8])
    text = json.dumps(json.loads(blob[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants tensor data to start on an 8-byte boundary
    return struct.pack("<Q", len(text)) + text + blob[8 + length :]


def convert(source: Path) -> tuple[bytes, int]:
    """Return the safetensors bytes for the checkpoint and the number of keys kept."""
    state = torch.load(source, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or "image_encoder.neck.0.weight" not in state:
        raise ValueError(f"{source} must be a MobileSAM state dict, got another layout.")
    kept = {key: value.contiguous() for key, value in state.items() if not key.startswith(UNUSED)}
    metadata = {
        "format": "pt",
        "layout": LAYOUT,
        "licence": "Apache-2.0",
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    return sorted_header(save(kept, metadata)), len(kept)


def main() -> int:
    """Convert, write, and print what a reader needs to check the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="path to mobile_sam.pt, official or rebuilt")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="default: %(default)s")
    args = parser.parse_args()
    try:
        blob, count = convert(args.checkpoint)
    except pickle.UnpicklingError:  # torch's own text advises to switch the safety off
        print(f"make_weights: {args.checkpoint} is not a checkpoint that holds tensors only.", file=sys.stderr)
        return 1
    except (OSError, ValueError, RuntimeError) as error:
        print(f"make_weights: {error}", file=sys.stderr)
        return 1
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_bytes(blob)
    print(f"wrote   {args.output}")
    print(f"sha256  {hashlib.sha256(blob).hexdigest()}")
    print(f"keys    {count}")
    print(f"bytes   {len(blob):,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
