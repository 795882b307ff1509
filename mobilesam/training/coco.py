"""Learning from a COCO file: its images, and the prompts and true masks of their objects."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mobilesam.errors import MobileSamError
from mobilesam.images import read_image
from mobilesam.modeling import Sam
from mobilesam.quality.validation import load_truth, usable_cases, with_objects
from mobilesam.training.examples import Annotated
from mobilesam.training.recipe import Recipe
from mobilesam.training.train import Training, train
from mobilesam.training.watch import Watch


def train_on_coco(
    sam: Sam,
    coco: str | Path,
    images: str | Path,
    *,
    out: str | Path = "mobile_sam_trained.safetensors",
    prompts: str = "given",
    passes: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Training:
    """Learn from the masks of a COCO file, and write new weights if they are better on images left out.

    Args:
        sam: the model to start from, which stays as it is.
        coco: COCO instances file.
        images: the folder of its images.
        out: the new checkpoint. A model card, `.md`, appears beside it.
        prompts: "given" for the boxes of the annotations, "point" for clicks, "both" for both in turns.
        passes: over all masks. Default: by their number.
        seed: of the order, the prompts and the split.
        limit: use so many images at most.
        progress: show bars.
        options: see `mobilesam.training.train.train`.

    Raises:
        AnnotationError: the file is not COCO's.
        CheckpointError: `out` or its card is there already, or it has another suffix.
        NotEnoughTruthError: fewer than 10 masks, or all of one image.
    """
    failed: list[tuple[str, str]] = []
    recipe = Recipe(prompts=prompts, passes=passes, seed=seed)
    examples = coco_images(coco, images, failed, limit)
    return train(sam, examples, out, recipe=recipe, watch=Watch(shown=progress), failed=failed, **options)


def coco_images(
    coco: str | Path, images: str | Path, failed: list[tuple[str, str]], limit: int | None = None
) -> Iterator[Annotated]:
    """Read images that have masks, one at a time; crowds are left out, and the prompts are the annotations' boxes.

    Args:
        coco: COCO instances file, polygons or run lengths.
        images: the folder of its images.
        failed: what could not be used, an image or an annotation, and why, is added here.
        limit: read so many images at most.

    Raises:
        AnnotationError: the file is not COCO's.
        MissingPackageError: pycocotools is not installed.
    """
    truth = load_truth(coco, failed)
    for record, annotations in with_objects(truth, limit):
        path = Path(images) / record["file_name"]
        try:
            image = read_image(path)
        except MobileSamError as error:
            failed.append((str(path), str(error)))
            continue
        cases, unusable = usable_cases(truth, annotations, image.shape[:2])
        failed += [(f"{path}, {name}", reason) for name, reason in unusable]
        if cases:
            yield Annotated(record["file_name"], image, [(prompt, mask) for _, mask, prompt in cases])
