"""`fom.train`: new weights from masks of a dataset that a person accepted, corrected or drew."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fiftyone as fo
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.export.masks import check_masks, exported_images
from fiftyone_mobilesam.fields import label_fields, labels_path
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import PROMPT_LABELS, label_prompts
from mobilesam import EmbeddingCache, FieldError, load_model
from mobilesam.errors import MobileSamError, NotEnoughTruthError
from mobilesam.images import read_image
from mobilesam.training.examples import Annotated
from mobilesam.training.recipe import Recipe
from mobilesam.training.train import MAY_FORGET, Training
from mobilesam.training.train import train as learn
from mobilesam.training.watch import Watch
from mobilesam.weights import absolute_weights

Failures = list[tuple[str, str]]


def train(
    samples: SampleCollection,
    prompt_field: str,
    mask_field: str,
    out: str | Path,
    *,
    weights: str | Path = "mobile_sam.pt",
    prompts: str = "given",
    passes: int | None = None,
    may_forget: float = MAY_FORGET,
    seed: int = 0,
    device: str | None = None,
    cache_dir: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
    on_progress: Callable[[float, str], None] | None = None,
    stop: threading.Event | None = None,
) -> Training:
    """Let MobileSAM learn from masks, and write new weights if they are better on images that were not learnt from.

    If masks of the field were reviewed, those that were accepted are learnt from, corrected by hand or as they were;
    else all. Each is learnt with the prompt it was made from, or with its own box where there is none.

    Args:
        samples: a dataset or view of images.
        prompt_field: field of the prompts; `mask_field` itself for masks that were drawn.
        mask_field: field of Detections with masks.
        out: the new checkpoint, `.safetensors`, `.pt` or `.pth`. A model card, `.md`, appears beside it.
        weights: to start from, see `load_model`; the result of an earlier training, to go on from there.
        prompts: "given" for the prompts as they are, "box", "point" for clicks, "both" for boxes and clicks in turns.
        passes: over all masks. Default: by their number.
        may_forget: how much of their mean IoU photographs may lose; 1 if other images do not matter.
        seed: of the order, the prompts and the split.
        device: where to run. Default: a GPU if there is one.
        cache_dir: folder for image embeddings, that of `load_model`.
        overwrite: replace `out` if it is there.
        progress: show bars.
        on_progress: is called with a share from 0 to 1 and a text, step by step.
        stop: ends the learning when it is set, and keeps the best so far.

    Returns:
        What it came to: `print(it)`; `it.path` is the checkpoint, None if the old weights stay.

    Raises:
        FieldError: a field without prompts or masks, or not of images.
        NotEnoughTruthError: fewer than 10 masks, or all of one image.
        CheckpointError: `out` or its card is there already, or it has another suffix; `weights` do not load.
        OSError: `out` cannot be written, or 48 MB are not free there, which is said before it begins.
    """
    check_masks(samples, mask_field, "mask_field")
    if prompt_field not in (fields := label_fields(samples, PROMPT_LABELS)):
        raise FieldError(f"prompt_field must have prompts, got {prompt_field!r}. Fields that fit: {', '.join(fields)}.")
    recipe, failed = Recipe(prompts=prompts, passes=passes, seed=seed), []
    try:
        return learn(
            load_model(weights, device=device),
            annotated_images(samples, prompt_field, mask_field, failed),
            out,
            recipe=recipe,
            started_from=absolute_weights(weights),
            cache=None if cache_dir is None else EmbeddingCache(cache_dir),
            may_forget=may_forget,
            overwrite=overwrite,
            watch=Watch(shown=progress, on_progress=on_progress, stop=stop),
            failed=failed,
        )
    except NotEnoughTruthError as error:
        if not _is_reviewed(samples, mask_field):
            raise
        reason = f"Some masks of {mask_field!r} were reviewed, so only those that were accepted count. {error}"
        raise NotEnoughTruthError(reason) from None


def annotated_images(
    samples: SampleCollection, prompt_field: str, mask_field: str, failed: Failures
) -> Iterator[Annotated]:
    """Read images whose masks are to be learnt from; what cannot be used is added to `failed`, and why."""
    reviewed = _is_reviewed(samples, mask_field)
    prompted = samples.select_fields([prompt_field]).iter_samples()
    for image, sample in zip(exported_images(samples, mask_field), prompted, strict=True):
        masks = [one for one in image.masks if not reviewed or _is_accepted(one.label)]
        if not masks:
            continue
        try:
            pixels = read_image(image.filepath)
        except MobileSamError as error:
            failed.append((image.filepath, str(error)))
            continue
        own, given = (
            {
                prompt.label.id: prompt.ask(pixels.shape[:2])
                for prompt in label_prompts({"prompt_field": value}, Options())
            }
            for value in (fo.Detections(detections=[one.label for one in masks]), sample[prompt_field])
        )
        objects = []
        for one in masks:
            answer = given.get(one.label.get_attribute_value("prompt_id", None), own[one.label.id])
            failure = one.failure or answer.failure
            if failure is None:
                objects.append((answer.prompt, one.full(pixels.shape[:2])))
            else:
                failed.append((f"{image.filepath}, label {one.label.id}", failure))
        if objects:
            yield Annotated(image.filepath, pixels, objects)


def _is_reviewed(samples: SampleCollection, mask_field: str) -> bool:
    decisions = f"{labels_path(samples, mask_field)}.review"
    return samples.get_field(decisions) is not None and samples.count(decisions) > 0


def _is_accepted(label: fo.Detection) -> bool:
    return label.get_attribute_value("review", None) == "accepted"
