"""The panel "Review masks" in the App: seen, clicked and pressed as a user does."""

import fiftyone as fo
import pytest
from scenes import LEFT, detections, ellipse_box
from servers import until

from fiftyone_mobilesam.zoo import MobileSAMModel

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
    dataset.apply_model(MobileSAMModel(sam), label_field="masks", prompt_field="boxes", progress=False)
    worst = dataset.last().masks.detections[0].id
    dataset.set_label_values("masks.detections.predicted_iou", {worst: 0.1})
    return dataset


def press_alt(browser, key):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    ActionChains(browser.driver).key_down(Keys.ALT).send_keys(key).key_up(Keys.ALT).perform()


def wait_for(browser, *texts):
    def text():
        return browser.driver.find_element("tag name", "body").text

    until(lambda: all(part in text() for part in texts), lambda: f"{texts} not in {text()!r}")


def stored(dataset):
    """Read the labels from the database, not from objects in memory."""
    documents = dataset._sample_collection.find({}, ["masks"])
    return {label["label"]: label for document in documents for label in document["masks"]["detections"]}


def test_a_person_reviews_masks_in_the_grid(browser, masks):
    before = stored(masks)
    browser.open_dataset(masks.name)
    browser.click(css="[data-cy='new-panel-btn']")
    browser.click(css="[data-cy='new-panel-option-review_masks']")
    wait_for(browser, "1 of 4", "0 accepted, 0 rejected, 4 undecided", "the model is unsure (predicted IoU 0.10)")
    press_alt(browser, "a")  # the worst; nothing has the focus
    wait_for(browser, "2 of 4", "1 accepted, 0 rejected, 3 undecided")
    assert (stored(masks)["a"]["review"], stored(masks)["a"]["tags"]) == ("accepted", ["accepted"])
    browser.screenshot("review_grid")
    browser.click(css="button[accesskey='r']")
    wait_for(browser, "3 of 4", "1 accepted, 1 rejected, 2 undecided")
    now = stored(masks)
    [rejected] = [name for name, label in now.items() if label.get("review") == "rejected"]
    assert now[rejected]["tags"] == ["rejected"]
    browser.click(css="button[accesskey='c']")
    wait_for(browser, "3 of 4", "New mask: predicted IoU")
    browser.screenshot("review_retried")
    now = stored(masks)
    [retried] = [name for name in now if now[name]["predicted_iou"] != before[name]["predicted_iou"]]
    assert retried not in ("a", rejected)
    assert now[retried]["mask"] != before[retried]["mask"]
    assert all(now[retried][name] == before[retried][name] for name in ("_id", "label", "prompt_id"))
    browser.click(css="button[accesskey='u']")
    wait_for(browser, "3 of 4", "1 accepted, 1 rejected, 2 undecided")
    until(lambda: stored(masks)[retried]["mask"] == before[retried]["mask"], lambda: "the old mask is not back")


def test_in_the_modal_it_starts_with_the_open_sample(browser, masks):
    browser.open_dataset(masks.name)
    browser.open_sample()
    browser.click(text="Review masks")
    wait_for(browser, "1 of 4", "prompt from boxes")
    browser.screenshot("review_modal")
    browser.click(css="button[accesskey='r']")
    wait_for(browser, "2 of 4", "0 accepted, 1 rejected, 3 undecided")
    [rejected] = [name for name, label in stored(masks).items() if label.get("review") == "rejected"]
    assert rejected in PEOPLE
