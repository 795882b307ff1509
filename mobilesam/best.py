"""`quality="best"`: better masks for the same prompts, at about 1 to 3 times the time.

- A prompt with a box gets the mask of the fitted `MaskHead`, made from all that the decoder's four answers know.
- A small object is looked at a second time in a crop in which it is large. Crops are shared, see `plan_crops`. The mask
  is cut from the mean of what both say.
- Points alone can mean a part or a whole: of the decoder's four answers the one of the highest `mask_quality` is kept.
- A mask as prompt gets the mask that "fast" gives.

What each is worth stands in docs/accuracy.md.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mobilesam.answers import ALL_ANSWERS, CANDIDATES, SINGLE_ANSWER, Decoded
from mobilesam.geometry import ImageEmbedding, MaskCrop, Region
from mobilesam.geometry.crops import plan_crops
from mobilesam.geometry.masks import WHOLE_TILE, tile_for
from mobilesam.predictor import SamPredictor
from mobilesam.prompts import Prompt, chunks

Cut = Callable[..., MaskCrop]  # `crop_mask`, with the options of the call


class BestMasks:
    """One call: arguments are those of `predict_batch`, `cut` makes masks of logits. Masks are made by `predict`."""

    def __init__(
        self,
        predictor: SamPredictor,
        prompts: Sequence[Prompt],
        image: ImageEmbedding,
        regions: Sequence[Region],
        cut: Cut,
        return_low_res_logits: bool,
    ):
        self.predictor, self.prompts, self.image, self.regions, self.cut = predictor, prompts, image, regions, cut
        self.keeps_low_res = return_low_res_logits
        self.matrices = predictor._matrices(image)
        self.rater = predictor._rater(image, "best")
        self.masks: list[list[MaskCrop]] = [[] for _ in prompts]  # made so far, of each prompt

    @torch.no_grad()
    def predict(self) -> list[list[MaskCrop]]:
        """Return a list of one mask for each prompt."""
        with_box = [i for i, prompt in enumerate(self.prompts) if prompt.box is not None and prompt.mask_input is None]
        self.from_boxes(with_box)
        self.from_others(sorted(set(range(len(self.prompts))) - set(with_box)))
        return [[_best(crops)] for crops in self.rater.rated(self.masks)]

    def from_boxes(self, indices: Sequence[int]) -> None:
        """Make the masks of prompts with a box, those of small objects from two views."""
        planned = self._planned(indices)
        twice = {i for _, inside in planned for i in inside}
        first: dict[int, tuple[Tensor, Decoded, int]] = {}
        for i, decoded, row in self._decoded(self.image, [(i, self.prompts[i]) for i in indices], self.regions):
            logits = self.predictor._upscale(decoded.logits[row][0], self.matrices, self.regions[i], decoded.tiles[row])
            if i in twice:
                first[i] = logits, decoded, row
            else:
                self._finish(i, logits, decoded, row)
        for crop, inside in planned:
            self._look_again(crop, inside, first)

    def _planned(self, indices: Sequence[int]) -> list[tuple[Region, list[int]]]:
        """Return the crops of the image to look at, and the prompts in each."""
        if self.image.pixels is None:
            return []
        found = plan_crops([self.prompts[i].box for i in indices], self.image.original_hw)
        planned = [(crop, [indices[k] for k in inside]) for crop, inside in found]
        return [(crop, some) for crop, inside in planned if (some := [i for i in inside if self._fits(i, crop)])]

    def _fits(self, index: int, crop: Region) -> bool:
        """Whether the points of a prompt are in a crop."""
        points = self.prompts[index].point_coords
        return points is None or bool(((points >= crop[:2]) & (points <= crop[2:])).all())

    def _look_again(self, crop: Region, inside: Sequence[int], first: dict[int, tuple[Tensor, Decoded, int]]) -> None:
        """Take the mean of what the whole image and a crop of it say."""
        x0, y0, x1, y1 = crop
        [view] = self.predictor.encode_images([np.ascontiguousarray(self.image.pixels[y0:y1, x0:x1])])
        matrices = self.predictor._matrices(view)
        moved = {i: _moved(self.prompts[i], (x0, y0)) for i in inside}
        shared = {i: _shared(self.regions[i], crop) for i in inside}
        local = {i: (left - x0, top - y0, right - x0, bottom - y0) for i, (left, top, right, bottom) in shared.items()}
        for i, decoded, row in self._decoded(view, list(moved.items()), local):
            logits, whole, whole_row = first.pop(i)
            again = self.predictor._upscale(decoded.logits[row][0], matrices, local[i], decoded.tiles[row])
            (left, top), (a, b, c, d) = self.regions[i][:2], shared[i]
            part = logits[b - top : d - top, a - left : c - left]
            agreement = _iou(part > 0, again > 0)
            part.add_(again).mul_(0.5)
            self._finish(i, logits, whole, whole_row, agreement)

    def _decoded(
        self, view: ImageEmbedding, prompts: list[tuple[int, Prompt]], regions: Sequence[Region] | dict[int, Region]
    ) -> Iterator[tuple[int, Decoded, int]]:
        """Decode prompts, with their indices, in a view of the image; regions, by index, are in its frame.

        Yields an index, what was decoded together, and the row in it.
        """
        predictor, heads = self.predictor, self.predictor.heads
        decode, matrices = predictor._decoder(view, heads.mask), predictor._matrices(view)
        for chunk, _ in chunks([prompt for _, prompt in prompts], False, size=predictor._prompts_per_chunk):
            whole = self.keeps_low_res
            tiles = [WHOLE_TILE if whole else tile_for(matrices, regions[prompts[k][0]]) for k in chunk]
            decoded = decode([prompts[k][1] for k in chunk], tiles, SINGLE_ANSWER)
            yield from ((prompts[k][0], decoded, row) for row, k in enumerate(chunk))

    def from_others(self, indices: Sequence[int]) -> None:
        """Make the masks of points alone, all of the decoder's answers; of a mask prompt the single one."""
        decode, prompts = self.predictor._decoder(self.image), [self.prompts[i] for i in indices]
        knows_points = "points" in self.predictor.heads.quality
        for chunk, one_point in chunks(prompts, None, size=self.predictor._prompts_per_chunk):
            chunk = [indices[k] for k in chunk]
            has_mask = self.prompts[chunk[0]].mask_input is not None
            usual = CANDIDATES if one_point else SINGLE_ANSWER
            answers = ALL_ANSWERS if knows_points and not has_mask else usual
            tiles = [WHOLE_TILE if self.keeps_low_res else tile_for(self.matrices, self.regions[i]) for i in chunk]
            decoded = decode([self.prompts[i] for i in chunk], tiles, answers)
            for row, i in enumerate(chunk):
                for position, answer in enumerate(answers):
                    low_res, tile = decoded.logits[row][position], decoded.tiles[row]
                    logits = self.predictor._upscale(low_res, self.matrices, self.regions[i], tile)
                    self._finish(i, logits, decoded, row, position=position, answer=answer)

    def _finish(
        self,
        index: int,
        logits: Tensor,
        decoded: Decoded,
        row: int,
        agreement: float = 1.0,
        *,
        position: int = 0,
        answer: int = 0,
    ) -> None:
        """Cut a mask from the logits of its region and note what its quality is told from."""
        scores = decoded.iou_predictions[row].tolist()
        low_res = decoded.logits[row][position] if self.keeps_low_res else None
        prompt = self.prompts[index]
        crop = self.cut(logits, self.regions[index], iou_prediction=scores[answer], low_res_logits=low_res)
        self.rater.add(
            (index, len(self.masks[index])),
            prompt,
            crop,
            logits,
            tokens=decoded.tokens[row, [0, 1 + position]],
            iou_predictions=scores,
            answer=answer,
            agreement=agreement,
        )
        self.masks[index].append(crop)


def _best(crops: Sequence[MaskCrop]) -> MaskCrop:
    """Return the mask of the highest quality, by predicted IoU where that is not known."""
    return max(crops, key=lambda crop: crop.iou_prediction if crop.mask_quality is None else crop.mask_quality)


def _moved(prompt: Prompt, corner: tuple[int, int]) -> Prompt:
    """Return a prompt as a crop of the image sees it, whose corner is at (x, y)."""
    points = prompt.point_coords
    return replace(
        prompt, box=prompt.box - np.tile(corner, 2), point_coords=None if points is None else points - np.array(corner)
    )


def _shared(a: Region, b: Region) -> Region:
    """Return the part that two regions share; the crop of a prompt holds its box, so there is one."""
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _iou(a: Tensor, b: Tensor) -> float:
    """Return the IoU of two (h, w) bool masks; 1 if both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
