"""The panel "Review masks" in the App: seen, clicked and pressed as a user does."""

import fiftyone as fo
import pytest
from scenes import LEFT, detections, ellipse_box
from waiting import wait_for

from fiftyone_mobilesam.zoo import MobileSAMModel
from mobilesam import SamPredictor

PEOPLE = {
    "tie": [439 / 1280, 437 / 720, 85 / 1280, 272 / 720],
    "left": [0.1, 0.27, 0.42, 0.72],
    "right": [0.58, 0.06, 0.31, 0.93],
}


@pytest.fixture
def masks(sam, photos, make_dataset):
    """A photograph with three masks from boxes, and a scene with a mask whose score is the worst."""
    prompts = [fo.Detection(label=name, bounding_box=box) for name, box in PEOPLE.items()]
    photo = {"filepath": str(photos["zidane"]), "boxes": fo.Detections(detections=prompts)}
    dataset = make_dataset(photo, {"boxes": detections(ellipse_box(*LEFT))})
    dataset.apply_model(
        MobileSAMModel(SamPredictor(sam, fast=True)), label_field="masks", prompt_field="boxes", progress=False
    )
    worst = dataset.last().masks.detections[0].id
    dataset.set_label_values("masks.detections.mask_quality", {worst: 0.1})
    return dataset


def reject(page, *texts):
    """Press Reject until it shows: the App can replace the panel under a click that comes right after a change."""
    page.click('//button[@accesskey="r"]')
    try:
        page.wait_for_texts(*texts, seconds=20)
    except TimeoutError:
        page.click('//button[@accesskey="r"]')
        page.wait_for_texts(*texts)


def stored(dataset):
    """Read the labels from the database, not from objects in memory."""
    documents = dataset._sample_collection.find({}, ["masks"])
    return {label["label"]: label for document in documents for label in document["masks"]["detections"]}


def test_a_person_reviews_masks_in_the_grid(page, masks, tmp_path):
    before = stored(masks)
    page.open(masks)
    page.click('//*[@data-cy="new-panel-btn"]')
    page.click('//*[@data-cy="new-panel-option-review_masks"]')
    page.wait_for_texts("1 of 4", "0 accepted, 0 rejected, 4 undecided", "expected IoU 0.10")
    page.wait_for_texts("The next 4 decisions look at 100% of the error", "random order")
    page.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.click('//button[@accesskey="g"]')
    wait_for(lambda: (tmp_path / "masks.html").exists(), 60, what="the report page")
    assert "expected IoU on average" in (tmp_path / "masks.html").read_text()
    page.press_key("a", alt=True)  # the worst; nothing has the focus
    page.wait_for_texts("2 of 4", "1 accepted, 0 rejected, 3 undecided")
    assert (stored(masks)["a"]["review"], stored(masks)["a"]["tags"]) == ("accepted", ["accepted"])
    page.screenshot("review_grid")
    reject(page, "3 of 4", "1 accepted, 1 rejected, 2 undecided")
    now = stored(masks)
    [rejected] = [name for name, label in now.items() if label.get("review") == "rejected"]
    assert now[rejected]["tags"] == ["rejected"]
    page.click('//button[@accesskey="c"]')
    page.wait_for_texts("3 of 4", "New mask: predicted IoU")
    page.screenshot("review_retried")
    now = stored(masks)
    [retried] = [name for name in now if now[name]["predicted_iou"] != before[name]["predicted_iou"]]
    assert retried not in ("a", rejected)
    assert now[retried]["mask"] != before[retried]["mask"]
    assert all(now[retried][name] == before[retried][name] for name in ("_id", "label", "prompt_id"))
    page.click('//button[@accesskey="u"]')
    page.wait_for_texts("3 of 4", "1 accepted, 1 rejected, 2 undecided")
    wait_for(lambda: stored(masks)[retried]["mask"] == before[retried]["mask"], what="the old mask")


def test_in_the_modal_it_starts_with_the_open_sample(page, masks):
    page.open(masks)
    page.open_sample()
    page.click('//*[normalize-space(.)="Review masks"]')
    page.wait_for_texts("1 of 4", "prompt from boxes")
    page.screenshot("review_modal")
    reject(page, "2 of 4", "0 accepted, 1 rejected, 3 undecided")
    [rejected] = [name for name, label in stored(masks).items() if label.get("review") == "rejected"]
    assert rejected in PEOPLE
