"""What is learnt from, out of a COCO file: images, and the prompts and true masks of their objects."""

from collections.abc import Iterator
from pathlib import Path

from mobilesam.errors import MobileSamError
from mobilesam.images import read_image
from mobilesam.quality.validation import load_truth, usable_cases, with_objects
from mobilesam.training.examples import Annotated


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
    truth = load_truth(coco)
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
