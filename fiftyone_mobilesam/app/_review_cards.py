"""A mask as the browser gets it: its picture, what is known about it, and what it was when it was read."""

from typing import Any

from fiftyone_mobilesam.review import Review
from fiftyone_mobilesam.review.picture import as_data_uri, draw_mask
from fiftyone_mobilesam.review.records import MaskRef, MaskUnderReview
from fiftyone_mobilesam.review.retry import asked, read_pixels
from mobilesam import ConflictError, MobileSamError


def card_of(review: Review, ref: MaskRef) -> dict[str, Any]:
    """Return the card of a mask, JSON serializable: `{"gone": True}` if it was deleted."""
    try:
        mask = review.load(ref)
    except ConflictError:
        return {"gone": True}
    card = {"ref": [ref.sample_id, ref.doc_id, ref.label_id], "decision": mask.decision, "version": mask.version}
    card |= {"failed": bool(mask.document.get("failure")), "words": words_of(mask)}
    try:
        card["picture"] = _picture(mask)
    except MobileSamError as error:
        card["problem"] = str(error)
    return card


def words_of(mask: MaskUnderReview) -> list[str]:
    """Say what is known about a mask, its label first."""
    document = mask.document
    parts = [str(document.get("label") or "no label")]
    if document.get("failure"):
        parts.append(f"No mask: {document['failure']}")
    if document.get("mask_quality") is not None:
        parts.append(f"expected IoU {document['mask_quality']:.2f}")
    for name, words in (
        ("predicted_iou", ("the model is sure", "the model is fairly sure", "the model is unsure")),
        ("stability_score", ("crisp edge", "fairly crisp edge", "fuzzy edge")),
    ):
        value = document.get(name)
        if value is not None:
            word = words[0] if value >= 0.9 else words[1] if value >= 0.75 else words[2]
            parts.append(f"{word} ({name.replace('_', ' ').replace('iou', 'IoU')} {value:.2f})")
    if mask.prompt_field:
        parts.append(f"prompt from {mask.prompt_field}")
    else:
        parts.append("its prompt was deleted" if document.get("prompt_id") else "made without a prompt")
    return parts


def _picture(mask: MaskUnderReview) -> str:
    pixels = read_pixels(mask)
    try:
        answer = asked(mask, original_hw=pixels.shape[:2])
    except MobileSamError:  # what its `failure` says
        answer = None
    return as_data_uri(draw_mask(pixels, mask.label.mask, mask.label.bounding_box, answer))
