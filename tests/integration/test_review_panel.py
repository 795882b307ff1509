"""The panel "Review masks" and its steps, called as the App and the browser call them, on the real database."""

import base64

import fiftyone as fo
import numpy as np
import pytest
from review_window import Window
from scenes import LEFT, RIGHT, detections, ellipse_box

import fiftyone_mobilesam as fom
from fiftyone_mobilesam import models
from fiftyone_mobilesam.app import review_step
from fiftyone_mobilesam.app.review_step import ReviewStep

BOXES = ellipse_box(*LEFT), ellipse_box(*RIGHT)


@pytest.fixture
def dataset(model, make_dataset):
    prompts = {"boxes": detections(*BOXES)}
    dataset = make_dataset(prompts, prompts)
    dataset.apply_model(model, label_field="masks", prompt_field="boxes", progress=False)
    ids = [label_id for labels in dataset.values("masks.detections.id") for label_id in labels]
    scores = dict(zip(ids, (0.9, 0.2, 0.8, 0.1), strict=True))
    dataset.set_label_values("masks.detections.mask_quality", scores)
    return dataset


def reviews(dataset):
    dataset.reload()
    return dataset.values("masks.detections.review")


def test_decisions_lead_through_all_masks(dataset):
    window = Window(dataset)
    window.do("on_load")
    assert (window.at, window.view["total"]) == (0, 4)
    assert window.card["picture"].startswith("data:image/jpeg;base64,")
    assert "expected IoU 0.10" in window.card["words"]
    assert window.counts() == {"total": 4, "accepted": 0, "rejected": 0, "undecided": 4, "failures": 0}
    window.press("accept")
    assert (window.at, window.counts()["accepted"]) == (1, 1)
    window.press("reject")
    window.at += 1
    window.look()
    session = window.view["session"]
    window.do("on_change_view")  # nothing has changed: the place is kept
    assert (window.view["session"], window.at) == (session, 3)
    assert reviews(dataset) == [[None, "rejected"], [None, "accepted"]]
    window.press("undo")
    assert (window.at, window.card["decision"]) == (1, None)
    assert window.counts() == {"total": 4, "accepted": 1, "rejected": 0, "undecided": 3, "failures": 0}
    for _ in range(3):
        window.press("accept")
    assert window.card is None


def test_several_steps_in_one_request_are_done_in_order(dataset):
    window = Window(dataset)
    window.do("on_load")
    cards = window.step(want=[0, 1, 2])["cards"]
    first, second, _ = ({key: cards[str(i)][key] for key in ("ref", "decision", "version")} for i in range(3))
    events = [{"action": "accept", **first}, {"action": "reject", **second}, {"action": "undo", "ref": second["ref"]}]
    events += [{"action": "reject", **first, "decision": "accepted"}]  # another click before the picture went on
    answer = window.step(events=events)
    assert [found.get("problem") for found in answer["answers"]] == [None] * 4
    assert (answer["counts"]["accepted"], answer["counts"]["rejected"]) == (0, 1)
    assert reviews(dataset) == [[None, None], [None, "rejected"]]


def test_a_step_that_is_sent_twice_is_done_once(dataset):
    window = Window(dataset)
    window.do("on_load")
    event = {"action": "accept"} | {key: window.card[key] for key in ("ref", "decision", "version")}
    for _ in range(2):
        assert window.step(events=[event])["answers"] == [{}]
    assert window.counts()["accepted"] == 1
    window.press("undo")
    assert window.counts()["accepted"] == 0


def test_a_decision_is_about_the_field_it_was_made_in(dataset):
    dataset.clone_sample_field("masks", "others")
    window = Window(dataset)
    window.do("on_load")
    event = {"action": "accept", "field": "masks"} | {key: window.card[key] for key in ("ref", "decision", "version")}
    window.do("choose_field", value="others")  # before the decision was sent
    assert window.step(events=[event])["answers"] == [{}]
    assert reviews(dataset) == [[None, None], [None, "accepted"]]


def test_delete_and_undo(dataset):
    window, ids = Window(dataset), dataset.values("masks.detections.id")
    window.do("on_load")
    assert window.press("delete")["counts"]["undecided"] == 3
    assert window.press("undo")["counts"]["undecided"] == 4
    assert dataset.values("masks.detections.id") == ids
    assert "nothing to undo" in window.press("undo")["problem"]


def test_what_was_decided_in_an_order_before_can_be_undone(dataset):
    window = Window(dataset)
    window.do("on_load")
    ref = window.card["ref"]
    window.press("accept")
    window.step(restart=True)
    window.look()
    assert (window.view["total"], window.card["ref"] == ref) == (3, False)
    window.press("undo")
    assert (window.at, window.view["total"], window.card["ref"]) == (0, 4, ref)
    assert reviews(dataset) == [[None, None], [None, None]]


def test_filters_and_the_open_sample(dataset):
    window = Window(dataset, "modal", current_sample=dataset.first().id)
    window.do("on_load")
    assert window.card["ref"][0] == dataset.first().id
    window.press("reject")
    window.do("choose_show", value="rejected")
    assert (window.at, window.view["total"]) == (0, 1)
    window.do("choose_show", value="failures")
    assert window.view["total"] == 0
    window.do("choose_show", value="undecided")
    window.press("open")
    assert [request["operator_uri"].split("/")[-1] for request in window.requests] == ["open_sample"]
    window.request["current_sample"] = dataset.last().id
    window.do("on_change_current_sample")
    assert window.card["ref"][0] == dataset.last().id


def test_a_retry_loads_the_shared_model_and_shows_the_new_mask(dataset, model, monkeypatch):
    monkeypatch.setattr(models, "shared_model", lambda *_, **__: model)  # the session's network, not a second one
    window = Window(dataset)
    window.do("on_load")
    before = window.card
    assert "New mask: predicted IoU 0.9" in window.press("padded")["message"]
    assert window.card["version"] != before["version"]
    assert window.card["picture"] != before["picture"]
    # A decision about the mask that was there before is not one about the new mask.
    assert "changed since you saw it" in window.press("accept", version=before["version"])["problem"]
    assert window.press("undo")["counts"]["undecided"] == 4
    assert window.card["version"] == before["version"]


def test_two_windows_on_one_label(dataset):
    mine, theirs = Window(dataset, "mine"), Window(dataset, "theirs")
    mine.do("on_load")
    theirs.do("on_load")
    theirs.press("reject")
    assert "went from undecided to rejected" in mine.press("accept")["problem"]
    assert reviews(dataset) == [[None, None], [None, "rejected"]]
    assert (mine.at, mine.card["decision"]) == (0, "rejected")
    mine.press("accept")
    assert reviews(dataset) == [[None, None], [None, "accepted"]]


def test_a_mask_field_or_dataset_that_goes_is_a_message(dataset):
    window = Window(dataset)
    window.do("on_load")
    dataset.delete_labels(ids=[window.card["ref"][2]])
    assert "not there any more" in window.press("accept")["problem"]
    assert window.card == {"gone": True}
    window.at += 1
    window.look()
    dataset.delete_sample_field("masks")
    assert "run MobileSAM first" in window.press("accept")["problem"]
    assert "no masks to review" in window.do("refresh")
    fo.delete_dataset(dataset.name)
    assert "deleted meanwhile" in window.do("report")
    assert "deleted meanwhile" in window.call(ReviewStep, {"field": "masks", "show": "all"})[0]["problem"]


def test_decisions_about_drawn_masks_say_what_could_be_accepted(dataset, monkeypatch):
    monkeypatch.setattr(review_step, "LEAST_DECISIONS", 2)
    fom.sample_to_check(dataset, "masks", 2)
    window = Window(dataset)
    window.do("on_load")
    window.do("choose_show", value="to check")
    assert window.view["total"] == 2
    assert not window.press("accept")["refresh"]
    event = {"action": "accept"} | {key: window.card[key] for key in ("ref", "decision", "version")}
    assert window.step(events=[event])["refresh"]
    assert "must rest on 59 checked masks at least, drawn at random, got 2 of 4" in window.do("refresh")


def test_after_25_decisions_the_rest_comes_in_an_order_that_learnt_from_them(make_dataset):
    masks = [
        fo.Detection(label="good" if i % 2 else "bad", bounding_box=[0.1, 0.1, 0.2, 0.2], mask=np.ones((2, 2), bool))
        for i in range(60)
    ]
    for i, mask in enumerate(masks):
        mask["mask_quality"], mask["prompt_id"] = 0.5 + i / 200, mask.id
    dataset = make_dataset({"masks": fo.Detections(detections=masks)})
    dataset.add_dynamic_sample_fields()
    window = Window(dataset)
    seen = window.do("on_load")
    assert "The next 60 decisions look at **100%**" in seen
    assert '"error_plot"' in seen
    assert "learns from your decisions" not in seen
    label = dict(zip(*dataset.values(["masks.detections.id", "masks.detections.label"], unwind=True), strict=True))
    for number in range(25):
        if number == 24:  # the browser knows three masks more, which stay where they are
            known = [card["ref"] for card in window.step(want=[25, 26, 27])["cards"].values()]
        window.press("accept" if label[window.card["ref"][2]] == "good" else "reject")
    assert (window.at, window.view["total"]) == (25, 60)
    assert "learns from your decisions" in window.do("refresh")
    ahead = [card["ref"] for card in window.step(want=range(25, 60))["cards"].values()]
    assert ahead[:3] == known
    labels = [label[ref[2]] for ref in ahead[3:]]
    assert labels == sorted(labels)  # all bad ones, then all good ones


def test_the_report_page_comes_to_the_browser(dataset):
    window = Window(dataset)
    window.do("on_load")
    assert "masks.html" in window.do("report")
    [download] = [r["params"] for r in window.requests if r["operator_uri"].endswith("browser_download")]
    page = base64.b64decode(download["url"].removeprefix("data:text/html;base64,")).decode()
    assert download["filename"] == "masks.html"
    assert page.startswith("<!doctype html>")
    assert "expected IoU on average" in page


def test_ten_accepted_masks_can_be_learnt_from(model, make_dataset):
    dataset = make_dataset({"boxes": detections(*[*BOXES] * 6)})
    dataset.apply_model(model, label_field="masks", prompt_field="boxes", progress=False)
    window = Window(dataset)
    window.do("on_load")
    for _ in range(9):
        answer = window.press("accept")
    assert not answer["refresh"]
    assert "accepted masks ..." not in window.do("refresh")
    event = {"action": "accept"} | {key: window.card[key] for key in ("ref", "decision", "version")}
    assert window.step(events=[event])["refresh"]
    assert "Train on 10 accepted masks ..." in window.do("refresh")
    window.do("train")
    [request] = [r["params"] for r in window.requests if r["operator_uri"] == "prompt_user_for_operation"]
    assert request["operator_uri"] == "@mobilesam/fiftyone-mobilesam/train"
    assert request["params"] == {"mask_field": "masks"}
