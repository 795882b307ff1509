"""From true masks to a checkpoint that is better on images like them: `SAM.train`, `mobilesam train`, `fom.train`.

The images are split in parts. For each part a decoder learns from the others and is measured on it, so every figure is
of images that were not learnt from. What is kept is the mean of these decoders, as far away from the old weights as is
best on those images and leaves photographs nearly as good as they were.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

import mobilesam.weights as weight_files
from mobilesam.embedding_cache import EmbeddingCache
from mobilesam.errors import CheckpointError, NotEnoughTruthError
from mobilesam.fast.heap import whole_heap_kept
from mobilesam.modeling import Sam
from mobilesam.predictor import SamPredictor
from mobilesam.selftest import self_test
from mobilesam.training import LEAST, PARTS
from mobilesam.training.card import data_of, describe, start_of
from mobilesam.training.check import Checked, check, figures, joined
from mobilesam.training.examples import Annotated, Example, data_sha256, encoded, masks_of
from mobilesam.training.fit import Fit, blended, steps_over
from mobilesam.training.out import checked_out, write
from mobilesam.training.photographs import bundled_photographs
from mobilesam.training.quality import inheritance, lend_heads
from mobilesam.training.recipe import Recipe
from mobilesam.training.start import Start, start_for
from mobilesam.training.unfinished import Best, Unfinished
from mobilesam.training.watch import Watch

SHARES = (1.0, 0.75, 0.5, 0.25)  # of the way from where learning began to the new weights
MAY_FORGET = 0.004  # mean IoU that photographs may lose
JUDGED = 1000  # masks left out that are looked at, at most: more would take longer than learning does
# Of mean IoU on images left out. What gained less (20 masks of nuclei, of plants) was worse on other images.
LEAST_GAIN = 0.005
LEAST_ERRORS = 0.5  # standard errors of that gain
NOT_BETTER = (
    "The new weights were not surely better on images left out: {:+.1f} points of mean IoU, with a standard error of "
    "{:.1f}, where half a point and half of that error is asked for. Correct more masks, and train again."
)
SHOWN = 5  # of what could not be used; `failed` has all
PATIENCE = 4  # passes without a better mean IoU on the images left out


Weights = dict[str, Tensor]


class Choice(NamedTuple):
    """What a share of the way to the new weights comes to on images left out, and why it is not kept, if so."""

    share: float
    own: dict[str, Any]
    photographs: dict[str, Any] | None
    told: Checked
    reason: str = ""


@dataclass
class Training:
    """What a training came to.

    Attributes:
        helped: whether the new weights are better on images left out, and so were written.
        path: the new checkpoint, its card beside it; None if the old weights stay.
        card: all figures and settings, as plain data.
        failed: what could not be learnt from, an image or an annotation, and why.
    """

    helped: bool
    path: Path | None
    card: dict[str, Any]
    failed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The model card as Markdown."""
        return describe(self.card, self.path)

    def __str__(self) -> str:
        return "\n".join([self.text, *left_out(self.failed)])


def left_out(failed: list[tuple[str, str]]) -> list[str]:
    """Return lines that say what could not be used, and why; of many the first."""
    lines = [f"- Left out: {where}: {reason}" for where, reason in failed[:SHOWN]]
    return lines + ([f"- ... and {len(failed) - SHOWN:,} more"] if len(failed) > SHOWN else [])


def train(
    sam: Sam,
    annotated: Iterable[Annotated],
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    start: Start | None = None,
    started_from: str = "mobile_sam.pt",
    cache: EmbeddingCache | None = None,
    may_forget: float = MAY_FORGET,
    overwrite: bool = False,
    watch: Watch | None = None,
    failed: list[tuple[str, str]] | None = None,
) -> Training:
    """Let the mask decoder of a model learn from true masks, and write a checkpoint if that helps.

    Ctrl-C ends the learning and keeps the best so far; after a kill the same call goes on where it was. The model that
    was given stays as it is. A Ctrl-C before anything was learnt is passed on: a `KeyboardInterrupt`.

    Args:
        sam: the model to start from.
        annotated: images with prompts and true masks.
        out: the new checkpoint, `.safetensors`, `.pt` or `.pth`, in upstream's layout.
        recipe: how is learnt.
        start: where learning begins. Default: `start_for(sam)`.
        started_from: the name of the weights of `sam`, for the card.
        cache: keeps image embeddings. Default: one beside `out` that is removed at the end.
        may_forget: how much of their mean IoU photographs may lose; 1 if other images do not matter.
        overwrite: replace `out` if it is there.
        watch: shows how it goes: the loss, the mean IoU on images left out, the time left. Default: a bar.
        failed: what could not be read of `annotated`, which is in the result.

    Raises:
        CheckpointError: `out` or its card is there, or it has another suffix.
        NotEnoughTruthError: fewer than 10 masks, or all of one image.
        OSError: `out` cannot be written, or 48 MB are not free there, which is said before it begins.
    """
    recipe, failed, watch = recipe or Recipe(), [] if failed is None else failed, watch or Watch()
    out = checked_out(out, overwrite)
    unfinished = Unfinished(out)
    encoder = SamPredictor(sam, fast=True, cache=cache or EmbeddingCache(unfinished.folder / "embeddings"))
    examples = [encoded(encoder, one, mirror=recipe.mirror) for one in watch.encoding(annotated)]
    if (masks := masks_of(examples)) < LEAST or len(examples) < 2:
        unfinished.remove()
        wanted = f"Training must have at least {LEAST} true masks, of 2 images or more, got {masks} of {len(examples)}."
        what = [f"{wanted} Correct or draw more masks, and train again.", *left_out(failed)]
        raise NotEnoughTruthError("\n".join(what))
    data = data_sha256(examples)
    unfinished.open(data, recipe, weight_files.sha256_of_state(weight_files.used_tensors(sam.state_dict())))
    photographs = bundled_photographs(sam)
    own, plain = _parts(examples, recipe.seed), _parts(photographs, recipe.seed)
    judged = [_some(part, JUDGED // len(own), recipe.seed) for part in own]
    start = start or start_for(sam)
    if not (decoders := _learn(start.sam, own, plain, judged, recipe, unfinished, watch)):
        raise KeyboardInterrupt
    choices = _compare(sam, start, judged, plain, decoders)
    found, new = _choose(start, choices, decoders, may_forget)
    by_itself = choices[-1].own["gain"] if start.decoder else 0.0
    passes = recipe.passes_over(masks_of(_others(own, 0)))
    settings = {"recipe": {**vars(recipe), "passes": passes}, "parts": len(decoders), "share": found.share}
    card = {
        **start_of(sam, started_from),
        "began_with": {**start.card, "gain": by_itself},
        "data": {**data_of(examples), "left_out": len(failed), "sha256": data},
        "images_left_out": found.own,
        "photographs": found.photographs,
        "mask_quality": None if new is None else inheritance(new, found.told),
        "settings": settings,
        "kept": "old weights" if new is None else "new weights",
        "reason": found.reason,
    }
    if new is not None:
        write(new, out, card, unfinished)
    unfinished.remove()
    return Training(new is not None, out if new is not None else None, card, failed)


def _parts(examples: list[Example], seed: int) -> list[list[Example]]:
    """Split images in parts with about as many masks each: at most `PARTS`, none of them empty."""
    parts: list[list[Example]] = [[] for _ in range(min(PARTS, len(examples)) or PARTS)]
    order = [examples[i] for i in np.random.default_rng(seed).permutation(len(examples))]
    for one in sorted(order, key=lambda one: -len(one.objects)):
        min(parts, key=masks_of).append(one)
    return parts


def _some(part: list[Example], masks: int, seed: int) -> list[Example]:
    """Return images of a part, drawn by chance, until they have so many masks."""
    chosen: list[Example] = []
    for i in np.random.default_rng(seed).permutation(len(part)):
        if masks_of(chosen) >= masks:
            break
        chosen.append(part[i])
    return chosen


def _learn(
    sam: Sam,
    own: list[list[Example]],
    plain: list[list[Example]],
    judged: list[list[Example]],
    recipe: Recipe,
    unfinished: Unfinished,
    watch: Watch,
) -> list[Weights]:
    """Return a decoder's weights for each part, learnt from the others; for fewer parts after Ctrl-C."""
    best: dict[int, Best] = {}
    watch.begin(sum(steps_over(_others(own, part), recipe) for part in range(len(own))))
    with suppress(KeyboardInterrupt), whole_heap_kept():
        for part in range(len(own)):
            fit = Fit(sam, _others(own, part), _others(plain, part), recipe)
            start = Best(float(check(sam, judged[part]).iou.mean()), None, 0)
            best[part] = unfinished.load(part, fit) or start
            watch.step(fit.step)
            while fit.done < fit.passes and fit.done - best[part].passes < PATIENCE:
                losses: list[float] = []
                fit.one_pass(lambda loss, losses=losses: (losses.append(loss), watch.step()))
                iou = float(check(blended(sam, [fit.mean], 1.0), judged[part]).iou.mean())
                watch.say(f"Part {part + 1} of {len(own)}: loss {np.mean(losses):.3f}, mean IoU {iou:.4f}")
                if iou >= best[part].iou or best[part].weights is None:
                    best[part] = Best(iou, {name: value.clone() for name, value in fit.mean.items()}, fit.done)
                unfinished.save(part, fit, best[part])
            watch.step(max(0, fit.steps - fit.step))
    watch.end()
    return [found.weights for found in best.values() if found.weights is not None]


def _compare(
    sam: Sam, start: Start, own: list[list[Example]], plain: list[list[Example]], decoders: list[Weights]
) -> list[Choice]:
    """Try shares of the way to the new weights; each decoder is judged on the part that it has not seen."""
    plain = plain if any(plain) else []
    models = ([sam] * len(decoders), [start.sam] * len(decoders))
    before = [_check_parts(some, parts) if parts else None for some, parts in zip(models, (own, plain), strict=True)]
    if before[1] is not None:  # a bundled decoder learnt from these photographs, so what it gained on others counts
        before[1] = before[1]._replace(iou=before[1].iou - start.gain_on_photographs)
    choices = []
    for share in SHARES if start.decoder is None else (*SHARES, 0.0):
        models = [lend_heads(start.sam, blended(start.sam, [decoder], share)) for decoder in decoders]
        now = [
            None if was is None else _check_parts(models, parts)
            for was, parts in zip(before, (own, plain), strict=True)
        ]
        own_now, plain_now = (None if x is None else figures(was, x) for was, x in zip(before, now, strict=True))
        choices.append(Choice(share, own_now, plain_now, now[0]))
    return choices


def _choose(
    start: Start, choices: list[Choice], decoders: list[Weights], may_forget: float
) -> tuple[Choice, Sam | None]:
    """Return the best of all that may be kept, and the model; else why nothing is kept.

    The best gains most on images left out and photographs together: of few masks those left out say little, and what
    photographs lose beside them was lost on other images like yours too.
    """

    def gains(choice: Choice) -> float:
        plain = 0.0 if choice.photographs is None or may_forget >= 1 else choice.photographs["gain"]
        return choice.own["gain"] + plain

    best = max(choices, key=lambda choice: choice.own["gain"])
    if not any(better(choice.own) for choice in choices):
        return best._replace(reason=NOT_BETTER.format(100 * best.own["gain"], 100 * best.own["standard_error"])), None
    reason = f"On photographs the new weights lost more than the {100 * may_forget:.1f} points that they may lose."
    for choice in sorted(choices, key=gains, reverse=True):
        if better(choice.own) and (choice.photographs is None or choice.photographs["gain"] >= -may_forget):
            new = lend_heads(start.sam, blended(start.sam, decoders, choice.share))
            try:
                self_test(new)
            except CheckpointError as error:
                reason = str(error)
                continue
            return choice, new
    return best._replace(reason=reason), None


def better(own: dict[str, Any]) -> bool:
    """Whether a gain is more than chance gives; what the start gained on photographs speaks for it already."""
    return own["gain"] > max(LEAST_ERRORS * own["standard_error"], LEAST_GAIN)


def _check_parts(models: list[Sam], parts: list[list[Example]]) -> Checked:
    return joined([check(model, part) for model, part in zip(models, parts, strict=False)])


def _others(parts: list[list[Example]], index: int) -> list[Example]:
    return [one for number, part in enumerate(parts) if number != index for one in part]
