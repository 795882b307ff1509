"""What is learnt from: encoded images, and the true masks of objects in them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mobilesam.geometry import Crop, ImageEmbedding, clip_region
from mobilesam.geometry.boxes import tight_region
from mobilesam.geometry.frames import BINARY_MASK_LOGIT
from mobilesam.geometry.masks import Tile, tile_for
from mobilesam.predictor import SamPredictor
from mobilesam.prompts import Prompt

MARGIN = 0.25  # of a box's sides: as far around it a mask can be wrong, and is looked at


@dataclass(frozen=True, eq=False)
class TrueMask:
    """An object of an image.

    Attributes:
        prompt: what it was prompted with, or will be.
        box: (4,) xyxy pixels of the original image, around the mask.
        mask: the true mask.
        tile: the image tokens that a loss looks at: the box and a margin.
        target: (4 * rows, 4 * columns) uint8, the share of each low-res pixel of the tile that is mask, times 255.
    """

    prompt: Prompt
    box: np.ndarray
    mask: Crop
    tile: Tile
    target: np.ndarray


@dataclass(frozen=True, eq=False)
class Example:
    """An image, encoded, with the objects that are learnt from; features are (1, 256, 64, 64) in half precision.

    Its mirror image has the same objects in the same order; None where it is not learnt from.
    """

    name: str
    embedding: ImageEmbedding
    objects: list[TrueMask]
    mirror: "Example | None" = None

    @property
    def full_precision(self) -> ImageEmbedding:
        """The embedding as the decoder takes it, in float32."""
        return replace(self.embedding, features=self.embedding.features.float())


@dataclass(frozen=True, eq=False)
class Annotated:
    """An image before it is encoded: (H, W, 3) uint8 RGB, and prompts with true masks (H, W) bool, not empty."""

    name: str
    image: np.ndarray
    objects: list[tuple[Prompt, np.ndarray]]


def encoded(predictor: SamPredictor, annotated: Annotated, *, mirror: bool = False) -> Example:
    """Encode an image and take in its objects; on request those of its mirror image as well."""
    [embedding] = predictor.encode_images([annotated.image])
    embedding = ImageEmbedding(embedding.features.half(), embedding.original_hw, embedding.input_hw)
    objects = [true_mask(predictor, prompt, mask) for prompt, mask in annotated.objects]
    other = encoded(predictor, mirrored(annotated)) if mirror else None
    return Example(annotated.name, embedding, objects, other)


def mirrored(annotated: Annotated) -> Annotated:
    """Turn left and right round."""
    width = annotated.image.shape[1]
    objects = []
    for prompt, mask in annotated.objects:
        box, points = prompt.box, prompt.point_coords
        box = None if box is None else np.array([width - box[2], box[1], width - box[0], box[3]])
        points = None if points is None else np.column_stack([width - points[:, 0], points[:, 1]])
        objects.append((replace(prompt, box=box, point_coords=points), np.ascontiguousarray(mask[:, ::-1])))
    return Annotated(annotated.name, np.ascontiguousarray(annotated.image[:, ::-1]), objects)


def true_mask(predictor: SamPredictor, prompt: Prompt, mask: np.ndarray) -> TrueMask:
    """Take in one object of an image."""
    original_hw = mask.shape
    region = tight_region(mask)
    x0, y0, x1, y1 = region
    seen = np.array(region, dtype=float)
    if prompt.box is not None:  # the margin goes around what the prompt says as well
        seen = np.concatenate([np.minimum(seen[:2], prompt.box[:2]), np.maximum(seen[2:], prompt.box[2:])])
    matrices = predictor.transform.upscale_matrices(original_hw)
    r0, c0, r1, c1 = tile = tile_for(matrices, clip_region(seen, MARGIN, original_hw=original_hw))
    logits = predictor.transform.apply_mask(mask)[0, 4 * r0 : 4 * r1, 4 * c0 : 4 * c1]
    target = np.round((logits / BINARY_MASK_LOGIT + 1) * 127.5).astype(np.uint8)
    return TrueMask(prompt, np.array(region, dtype=float), Crop(region, mask[y0:y1, x0:x1].copy()), tile, target)


def masks_of(examples: Sequence[Example]) -> int:
    """Return how many masks there are."""
    return sum(len(one.objects) for one in examples)


def batches(examples: list[Example], rng: np.random.Generator, size: int) -> Iterator[list[tuple[Example, list[int]]]]:
    """Go through all objects once, by chance: lists of images and indices of some of their objects, `size` in all.

    Objects of an image stay together where they can, because the image's side of the decoder is computed once for them.
    """
    parts = []
    for one in examples:
        order = rng.permutation(len(one.objects)).tolist()
        parts += [(one, order[start : start + size]) for start in range(0, len(order), size)]
    batch: list[tuple[Example, list[int]]] = []
    for index in rng.permutation(len(parts)).tolist():
        batch.append(parts[index])
        if sum(len(some) for _, some in batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def data_sha256(examples: list[Example]) -> str:
    """Return what changes if an image, a prompt or a mask does."""
    digest = hashlib.sha256()
    for one in examples:
        digest.update(
            f"{one.name} {one.embedding.original_hw}".encode() + one.embedding.features.cpu().numpy().tobytes()
        )
        for truth in one.objects:
            prompt = [None if x is None else x.tolist() for x in (truth.prompt.box, truth.prompt.point_coords)]
            digest.update(f"{prompt} {truth.mask.region}".encode() + np.packbits(truth.mask.mask).tobytes())
    return digest.hexdigest()
