"""The methods of the panel "Review masks", called as the App calls them, on the real database."""

import base64
import json

import fiftyone as fo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor
from scenes import LEFT, RIGHT, detections, ellipse_box

import fiftyone_mobilesam as fom
from fiftyone_mobilesam import models
from fiftyone_mobilesam.app import review_panel
from fiftyone_mobilesam.app.review_panel import ReviewPanel
from fiftyone_mobilesam.review import Review

BOXES = ellipse_box(*LEFT), ellipse_box(*RIGHT)


class Window:
    """An open panel: keeps its state between calls, as the browser does."""

    def __init__(self, dataset, panel_id="panel", **request):
        self.request = {"dataset_name": dataset.name, "dataset_id": str(dataset._doc.id), **request}
        self.panel_id, self.state = panel_id, {}

    def do(self, method, **params):
        """Call a method and return all that is seen then, as text."""
        params = {"panel_id": self.panel_id, "panel_state": self.state, "__method__": method, **params}
        ctx = ExecutionContext({**self.request, "params": params}, executor=Executor())
        ReviewPanel().execute(ctx)
        self.requests = [request.to_json() for request in ctx.executor._requests]
        self.state = json.loads(json.dumps(ctx.panel_state))
        return json.dumps(self.requests[-1])


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
    seen = window.do("on_load")
    assert "**1 of 4** \\u00b7 0 accepted, 0 rejected, 4 undecided" in seen
    assert "data:image/jpeg;base64," in seen
    assert "**2 of 4** \\u00b7 1 accepted" in window.do("accept")
    assert "1 rejected" in window.do("reject")
    assert "**4 of 4**" in window.do("skip")
    assert "0 accepted" not in window.do("on_change_view")  # nothing has changed: the place is kept
    assert "**3 of 4**" in window.do("back")
    assert reviews(dataset) == [[None, "rejected"], [None, "accepted"]]
    assert "**2 of 4** \\u00b7 1 accepted, 0 rejected" in window.do("undo")
    assert "This is the first one" not in window.do("back")
    assert "This is the first one" in window.do("back")
    for _ in range(4):
        seen = window.do("skip")
    assert "Nothing left here" in seen


def test_delete_and_undo(dataset):
    window, ids = Window(dataset), dataset.values("masks.detections.id")
    window.do("on_load")
    assert "3 undecided" in window.do("delete")
    assert "4 undecided" in window.do("undo")
    assert dataset.values("masks.detections.id") == ids
    assert "nothing to undo" in window.do("undo")


def test_filters_and_the_open_sample(dataset):
    window = Window(dataset, "modal", current_sample=dataset.first().id)
    window.do("on_load")
    assert window.state["at"][0] == dataset.first().id
    window.do("reject")
    assert "**1 of 1**" in window.do("choose_show", value="rejected")
    assert "Nothing left here" in window.do("choose_show", value="failures")


def test_a_retry_loads_the_shared_model_and_shows_the_new_mask(dataset, model, monkeypatch):
    monkeypatch.setattr(models, "shared_model", lambda *_, **__: model)  # the session's network, not a second one
    window = Window(dataset)
    window.do("on_load")
    assert "New mask: predicted IoU 0.9" in window.do("padded")
    assert "4 undecided" in window.do("undo")


def test_two_windows_on_one_label(dataset):
    mine, theirs = Window(dataset, "mine"), Window(dataset, "theirs")
    mine.do("on_load")
    theirs.do("on_load")
    theirs.do("reject")
    assert "went from undecided to rejected" in mine.do("accept")
    assert reviews(dataset) == [[None, None], [None, "rejected"]]
    mine.do("accept")
    assert reviews(dataset) == [[None, None], [None, "accepted"]]


def test_a_mask_field_or_dataset_that_goes_is_a_message(dataset):
    window = Window(dataset)
    window.do("on_load")
    dataset.delete_labels(ids=[window.state["at"][2]])
    assert "not there any more" in window.do("accept")
    dataset.delete_sample_field("masks")
    assert "no masks to review" in window.do("accept")
    fo.delete_dataset(dataset.name)
    assert "deleted meanwhile" in window.do("accept")


def test_labels_cannot_write_markdown(dataset):
    label_id = Window(dataset)
    label_id.do("on_load")
    dataset.set_label_values("masks.detections.label", {label_id.state["at"][2]: "![x](http://there/x.png)"})
    assert "![x](http" not in label_id.do("skip") + label_id.do("back")


def test_decisions_about_drawn_masks_say_what_could_be_accepted(dataset, monkeypatch):
    monkeypatch.setattr(review_panel, "LEAST_DECISIONS", 2)
    fom.sample_to_check(dataset, "masks", 2)
    window = Window(dataset)
    window.do("on_load")
    assert "**1 of 2**" in window.do("choose_show", value="to check")
    assert "checked masks at least" not in window.do("accept")
    assert "must rest on 59 checked masks at least, drawn at random, got 2 of 4" in window.do("accept")


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
    for _ in range(25):
        label = dict(zip(*dataset.values(["masks.detections.id", "masks.detections.label"], unwind=True), strict=True))
        seen = window.do("accept" if label[window.state["at"][2]] == "good" else "reject")
    assert "**26 of 60**" in seen
    assert "learns from your decisions" in seen
    queue = Review(dataset, "masks").worst_first()
    assert [label[ref.label_id] for ref in queue] == ["bad"] * (len(queue) // 2) + ["good"] * (
        len(queue) - len(queue) // 2
    )
    assert label[window.state["at"][2]] == "bad"


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
        assert "accepted masks ..." not in window.do("accept")
    assert "Train on 10 accepted masks ..." in window.do("accept")
    window.do("train")
    [request] = [r["params"] for r in window.requests if r["operator_uri"] == "prompt_user_for_operation"]
    assert request["operator_uri"] == "@mobilesam/fiftyone-mobilesam/train"
    assert request["params"] == {"mask_field": "masks"}
