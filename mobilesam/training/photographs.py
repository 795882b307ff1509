"""Plain photographs that come with the package, as image embeddings with true masks.

They are replayed while a model learns other images, and show what it forgets. They are of COCO 2017, with licences that
allow it; `scripts/make_photographs.py` makes the file, `assets/PROVENANCE.md` says of what.
"""

from collections.abc import Sequence

import numpy as np
import torch

from mobilesam.files import replacing
from mobilesam.geometry import ImageEmbedding
from mobilesam.modeling import Sam
from mobilesam.predictor import SamPredictor
from mobilesam.prompts import Prompt
from mobilesam.training.examples import Example, true_mask
from mobilesam.weights import BUNDLED, sha256_of_state

PHOTOGRAPHS = BUNDLED.with_name("photographs.npz")
STEPS = 8  # that a channel's values are rounded to, in its standard deviation: 3% off


def bundled_photographs(sam: Sam) -> list[Example]:
    """Return the photographs, none if the model encodes images in another way than the one that encoded them."""
    with np.load(PHOTOGRAPHS) as file:
        data = dict(file)
    if str(data["encoder"]) != _encoder(sam):
        return []
    predictor, found = SamPredictor(sam), []
    masks = np.split(data["masks"], np.cumsum([-(-int(h) * int(w) // 8) for h, w in data["mask_hw"]])[:-1])
    rows = np.split(np.arange(len(masks)), np.cumsum(data["objects"])[:-1])
    for number, name in enumerate(data["names"].tolist()):
        original_hw = tuple(data["original_hw"][number].tolist())
        features = torch.from_numpy(data["features"][number] * data["steps"][number][:, None, None])[None].half()
        objects = []
        for row in rows[number]:
            (x, y), (height, width) = data["corners"][row], data["mask_hw"][row]
            mask = np.zeros(original_hw, dtype=bool)
            mask[y : y + height, x : x + width] = np.unpackbits(masks[row], count=height * width).reshape(height, width)
            objects.append(true_mask(predictor, Prompt(box=data["boxes"][row]), mask))
        input_hw = predictor.transform.input_hw(original_hw)
        found.append(Example(name, ImageEmbedding(features.to(sam.device), original_hw, input_hw), objects))
    return found


def save_photographs(sam: Sam, examples: Sequence[Example], path: str = str(PHOTOGRAPHS)) -> None:
    """Write examples as `bundled_photographs` reads them: features as whole steps, which pack well."""
    features = np.stack([one.full_precision.features[0].numpy() for one in examples])
    steps = features.std((2, 3)) / STEPS
    objects = [truth for one in examples for truth in one.objects]
    data = {
        "encoder": np.array(_encoder(sam)),
        "names": np.array([one.name for one in examples]),
        "original_hw": np.array([one.embedding.original_hw for one in examples]),
        "features": np.clip(np.round(features / steps[:, :, None, None]), -127, 127).astype(np.int8),
        "steps": steps.astype(np.float32),
        "objects": np.array([len(one.objects) for one in examples]),
        "boxes": np.stack([truth.prompt.box for truth in objects]),
        "corners": np.array([truth.mask.region[:2] for truth in objects]),
        "mask_hw": np.array([truth.mask.mask.shape for truth in objects]),
        "masks": np.concatenate([np.packbits(truth.mask.mask) for truth in objects]),
    }
    with replacing(path) as unfinished, open(unfinished, "wb") as file:
        np.savez_compressed(file, **data)


def _encoder(sam: Sam) -> str:
    """Name the part of the encoder that is the same in all files of the official weights."""
    return sha256_of_state(sam.image_encoder.neck.state_dict())
