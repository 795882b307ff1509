"""Fit `mobile_sam_coco`, the decoder for boxes on photographs that ships beside MobileSAM's own: 80 minutes on 2 cores.

    python scripts/fit_decoder.py ../shared/data/coco_union ../shared/coco50 --work fitting

Each folder holds `instances.json` and `images/`. It is what `SAM.train` does, with true boxes moved by up to 10%. The
decoder alone is written, in half precision, as `mobilesam/assets/mobile_sam_coco.safetensors`; all that is done so far
is in the folder of `--work`, where the same command goes on after it was stopped. `judge_decoder.py` is next: it needs
the decoders of the parts, which stay there.
"""

import argparse
import json
import shutil
from itertools import chain
from pathlib import Path

from make_weights import sorted_header
from safetensors.torch import save

from mobilesam import EmbeddingCache, load_model
from mobilesam.heads.files import weights_of_tokens
from mobilesam.training.coco import coco_images
from mobilesam.training.recipe import Recipe
from mobilesam.training.start import Start
from mobilesam.training.train import train
from mobilesam.training.unfinished import Unfinished
from mobilesam.weights import CARD, COCO, OVER, load_state_dict, read_card, resolve, sha256_of

RECIPE = Recipe(prompts="box", passes=2, replay=0)  # photographs are what it learns


def main() -> None:
    """Fit, and write the decoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True, help="folder for embeddings and the whole checkpoint")
    parser.add_argument("--limit", type=int, help="use so many images of each folder, to try it")
    parser.add_argument("--output", type=Path, default=COCO)
    args, failed = parser.parse_args(), []
    images = chain(*(coco_images(one / "instances.json", one / "images", failed, args.limit) for one in args.folders))
    whole = args.work / "mobile_sam_coco.safetensors"
    cache = EmbeddingCache(args.work / "embeddings")
    Unfinished.remove = lambda unfinished: keep(unfinished.folder, args.work / "parts")
    # What photographs lose is of no account: those of the package are among those that are learnt from.
    sam, options = load_model(), {"recipe": RECIPE, "cache": cache, "may_forget": 1, "overwrite": True}
    print(train(sam, images, whole, start=Start(sam), failed=failed, **options))
    write_decoder(whole, args.output)


def keep(folder: Path, parts: Path) -> None:
    """Keep the decoders of the parts, for `judge_decoder.py`."""
    shutil.rmtree(parts, ignore_errors=True)
    folder.replace(parts)


def write_decoder(whole: Path, output: Path) -> None:
    """Write what a checkpoint has other than the bundled one, in half precision, with its card."""
    before, card = load_state_dict(resolve("mobile_sam.pt")), read_card(whole)
    new = {key: x.half() for key, x in load_state_dict(whole).items() if key in before and not x.equal(before[key])}
    rounded = load_model(device="cpu", verify=False)
    rounded.load_state_dict({**before, **{key: x.float() for key, x in new.items()}})
    card["photographs"] = None  # those of the package were learnt from
    if card["mask_quality"] is not None:
        card["mask_quality"]["weights"] = weights_of_tokens(rounded)
    metadata = {"format": "pt", OVER: "mobile_sam.safetensors", CARD: json.dumps(card)}
    output.write_bytes(sorted_header(save(new, metadata)))
    print(f"{output}: {len(new)} tensors, {output.stat().st_size:,} bytes, SHA-256 {sha256_of(output)}")


if __name__ == "__main__":
    main()
