"""What the browser's part of the panel "Review masks" asks of the server: write decisions, send masks ahead."""

from dataclasses import asdict
from typing import Any

from fiftyone import operators as foo
from fiftyone.operators import types

from fiftyone_mobilesam.app import _review_sessions as sessions
from fiftyone_mobilesam.app._review_cards import card_of
from fiftyone_mobilesam.app._review_sessions import Session
from fiftyone_mobilesam.keep import TO_CHECK
from fiftyone_mobilesam.quality.accept import promise
from fiftyone_mobilesam.review import Review
from fiftyone_mobilesam.review.order import LEAST_DECISIONS
from fiftyone_mobilesam.review.records import Change, Counts, MaskRef, MaskUnderReview
from fiftyone_mobilesam.review.retry import RETRIES, retry
from mobilesam import ConflictError, FieldError, MobileSamError
from mobilesam.training import LEAST

DECIDE = {"accept": "accepted", "reject": "rejected"}


class ReviewStep(foo.Operator):
    """Do what was pressed, in order, and answer with the masks that the browser wants next."""

    config = foo.OperatorConfig(
        name="review_step", label="A step of a mask review", unlisted=True, risk_level=types.RiskLevel.LOW
    )

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Take a step.

        Params: panel_id; field, show and session of the panel; at, the index of the mask on display; want, indices;
        restart; and events. Each has an action, and the field, ref, decision and version of the mask on display.

        Returns:
            `session`, `total`, `start` where it is another session than asked for; `answers`, one for each event;
            `counts`; `cards` by index; `refresh`, whether the panel has more to say. Or `problem`.
        """
        try:
            check_dataset(ctx)
            return _step(ctx, ctx.params)
        except (MobileSamError, ValueError) as error:
            return {"problem": str(error)}


def _step(ctx: Any, params: dict[str, Any]) -> dict[str, Any]:
    review, show = Review(ctx.view, params["field"]), params["show"]
    session = sessions.current(ctx, review, show)
    known = session.token == params.get("session")
    if known and params.get("at") is not None:
        session.at = params["at"]
    learns = session.decided // LEAST_DECISIONS
    answers = [_answer(ctx, review, session, event) for event in params.get("events") or []]
    if session.decided // LEAST_DECISIONS > learns:
        _learn(ctx, review, session)
    for answer in answers:
        if answer.get("outside"):  # the mask is not in this order: it was decided about before it was made
            session = sessions.begin(ctx, review, show, first=MaskRef(*answer["outside"]))
    if params.get("restart"):
        session = sessions.begin(ctx, review, show)
    counts = review.counts()
    found = {"session": session.token, "total": len(session.queue), "answers": answers, "counts": _numbers(counts)}
    found["refresh"] = session.decided // LEAST_DECISIONS > learns or (counts.accepted >= LEAST) != session.can_train
    found["start"], found["cards"] = session.at, {}
    if session.token == params.get("session"):
        wanted = [index for index in params.get("want") or [] if 0 <= index < len(session.queue)]
        session.sent = max([session.sent, *(index + 1 for index in wanted)])
        found["cards"] = {str(index): card_of(review, session.queue[index]) for index in wanted}
    return found


def _answer(ctx: Any, review: Review, session: Session, event: dict[str, Any]) -> dict[str, Any]:
    """Do what was pressed. Whatever comes of it, the card says what the mask is now, unless the browser knows."""
    ref = MaskRef(*event["ref"]) if event.get("ref") else None
    try:
        if event["action"] == "undo":
            return _undo(review, session, ref)
        if event.get("field", review.label_field) != review.label_field:  # another one was chosen meanwhile
            review = Review(ctx.view, event["field"])
        mask = _as_shown(review, ref, event)
        if event["action"] == "open":
            ctx.ops.open_sample(id=ref.sample_id)
        elif event["action"] in RETRIES:
            return _retry(review, session, mask, event["action"])
        elif mask.decision != DECIDE.get(event["action"], "delete"):
            session.did(_decide(review, mask, event["action"]))
            session.decided += 1
        return {}
    except MobileSamError as error:
        index = None if ref is None else session.index(ref)
        answer = {"problem": str(error)}
        return answer if index is None else answer | {"index": index, "card": card_of(review, ref)}


def _as_shown(review: Review, ref: MaskRef, event: dict[str, Any]) -> MaskUnderReview:
    """Return a mask if it is as it was on display, or has the wanted decision already.

    Raises:
        ConflictError: somebody else decided about it, changed it or deleted it.
    """
    mask = review.load(ref)
    if mask.version != event["version"]:
        raise ConflictError("This mask was changed since you saw it. Look at it again.")
    if mask.decision not in (event["decision"], DECIDE.get(event["action"], "")):
        seen, now = event["decision"] or "undecided", mask.decision or "undecided"
        raise ConflictError(f"In another window this mask went from {seen} to {now}. Press again to change that.")
    return mask


def _decide(review: Review, mask: MaskUnderReview, action: str) -> Change:
    return review.delete(mask) if action == "delete" else review.decide(mask, DECIDE[action])


def _retry(review: Review, session: Session, mask: MaskUnderReview, how: str) -> dict[str, Any]:
    """Predict the mask again; the decision is still to be made."""
    session.did(retry(review, mask, how))
    old, new = mask.document.get("predicted_iou"), review.load(mask.ref).document["predicted_iou"]
    text = f"New mask: predicted IoU {new:.2f}" + ("." if old is None else f", before {old:.2f}.")
    if mask.prompt is None:
        text += " Its prompt is not there any more, so the mask's own box was the prompt."
    text += " Undo brings the old one back."
    return {"message": text, "index": session.index(mask.ref), "card": card_of(review, mask.ref)}


def _undo(review: Review, session: Session, ref: MaskRef | None) -> dict[str, Any]:
    """Take the last change back."""
    change = session.last_change(ref and ref.label_id)
    session.changes.pop()
    review.undo(change)
    index = session.index(change.ref)
    if index is None:
        return {"outside": [change.ref.sample_id, change.ref.doc_id, change.ref.label_id]}
    return {"index": index, "card": card_of(review, change.ref), "undone": True}


def _learn(ctx: Any, review: Review, session: Session) -> None:
    """Now and then put what is left in a new order, or say what could be accepted where masks were drawn."""
    if session.show == TO_CHECK:
        session.promise = promise(ctx.view, review.label_field)
    elif not ctx.current_sample:
        session.learn(review.queue(session.show))


def _numbers(counts: Counts) -> dict[str, int]:
    return asdict(counts) | {"undecided": counts.undecided}


def check_dataset(ctx: Any) -> None:
    """Check that the dataset is there.

    Raises:
        FieldError: it was deleted.
    """
    try:
        _ = ctx.dataset  # loads it
    except ValueError as error:
        raise FieldError("The dataset is not there any more: it was deleted meanwhile. Open another one.") from error
