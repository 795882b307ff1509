"""The panel "Review masks" in the App: seen, clicked and pressed as a user does."""

import fiftyone as fo
import numpy as np
import pytest
from scenes import LEFT, detections, ellipse_box
from waiting import wait_for

from fiftyone_mobilesam.zoo import MobileSAMModel
from mobilesam import SamPredictor

PICTURE = '//img[@alt="The mask and its prompt"]'
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


@pytest.fixture
def drawn(make_dataset):
    """Four masks of a scene that no network made."""
    labels = []
    for number in range(4):
        label = fo.Detection(label=str(number), bounding_box=ellipse_box(*LEFT), mask=np.ones((9, 9), bool))
        label["prompt_id"], label["mask_quality"] = label.id, 0.2 + 0.2 * number
        labels.append(label)
    dataset = make_dataset({"masks": fo.Detections(detections=labels)})
    dataset.add_dynamic_sample_fields()
    return dataset


def open_panel(page, dataset):
    """Open the panel over the grid, and wait for its first picture."""
    page.open(dataset)
    page.click('//*[@data-cy="new-panel-btn"]')
    page.click('//*[@data-cy="new-panel-option-review_masks"]')
    page.wait(PICTURE)


def button(key):
    return f'//button[@aria-keyshortcuts="{key}"]'


def shown(page):
    """Return the label's id and the header of what is on display, read in one step."""
    script = """return [document.querySelector("[data-label-id]")?.dataset.labelId,
        document.querySelector('[data-cy="review-numbers"]')?.textContent]"""
    return page.browser.execute_script(script)


def hold_answers(page):
    """Keep the server's answers to steps from the page until `release_answers`."""
    page.browser.execute_script("""
    window.released = new Promise((release) => { window.release = release; });
    const fetch = window.fetch;
    window.fetch = async (...request) => {
        const answer = await fetch(...request);
        if (String(request[0]?.url ?? request[0]).endsWith("/operators/execute")) await window.released;
        return answer;
    };""")


def release_answers(page):
    page.browser.execute_script("window.release()")


def stored(dataset):
    """Read the labels from the database, not from objects in memory."""
    documents = dataset._sample_collection.find({}, ["masks"])
    return {label["label"]: label for document in documents for label in document["masks"]["detections"]}


def decisions(dataset):
    return {str(label["_id"]): label.get("review") for label in stored(dataset).values()}


def test_a_person_reviews_masks_in_the_grid(page, masks, tmp_path):
    before = stored(masks)
    open_panel(page, masks)
    page.wait_for_texts("1 of 4", "0 accepted, 0 rejected, 4 undecided", "expected IoU 0.10")
    page.wait_for_texts("The next 4 decisions look at 100% of the error", "random order")
    page.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.click('//button[contains(., "Report page")]')
    wait_for(lambda: (tmp_path / "masks.html").exists(), 60, what="the report page")
    assert "expected IoU on average" in (tmp_path / "masks.html").read_text()
    page.click(button("a"))  # the worst
    page.wait_for_texts("2 of 4", "1 accepted, 0 rejected, 3 undecided")
    wait_for(lambda: stored(masks)["a"].get("review"), what="the decision")
    assert (stored(masks)["a"]["review"], stored(masks)["a"]["tags"]) == ("accepted", ["accepted"])
    page.screenshot("review_grid")
    page.click(button("r"))
    page.wait_for_texts("3 of 4", "1 accepted, 1 rejected, 2 undecided")
    wait_for(lambda: "rejected" in decisions(masks).values(), what="the decision")
    now = stored(masks)
    [rejected] = [name for name, label in now.items() if label.get("review") == "rejected"]
    assert now[rejected]["tags"] == ["rejected"]
    page.click(button("c"))
    page.wait_for_texts("3 of 4", "New mask: predicted IoU")
    page.screenshot("review_retried")
    now = stored(masks)
    [retried] = [name for name in now if now[name]["predicted_iou"] != before[name]["predicted_iou"]]
    assert retried not in ("a", rejected)
    assert now[retried]["mask"] != before[retried]["mask"]
    assert all(now[retried][name] == before[retried][name] for name in ("_id", "label", "prompt_id"))
    page.click(button("u"))
    page.wait_for_texts("3 of 4", "1 accepted, 1 rejected, 2 undecided")
    wait_for(lambda: stored(masks)[retried]["mask"] == before[retried]["mask"], what="the old mask")


def test_plain_keys_decide_while_the_panel_has_the_focus(page, drawn):
    open_panel(page, drawn)
    page.wait_for_texts("The keys on the buttons work now", "4 undecided")
    first, _ = shown(page)
    page.press_key("a")
    page.wait_for_texts("2 of 4", "1 accepted, 0 rejected, 3 undecided")
    second, _ = shown(page)
    key = {"key": "r", "code": "KeyR", "text": "r", "windowsVirtualKeyCode": 82}
    for kind in ("keyDown", "keyUp"):  # as any tool that speaks the DevTools protocol sends it
        page.browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind, **key})
    page.wait_for_texts("3 of 4", "1 accepted, 1 rejected, 2 undecided")
    wait_for(lambda: decisions(drawn)[second] == "rejected", what="the decision")
    assert decisions(drawn)[first] == "accepted"
    page.press_key("u")
    page.wait_for_texts("2 of 4", "1 accepted, 0 rejected, 3 undecided")
    assert shown(page)[0] == second
    wait_for(lambda: decisions(drawn)[second] is None, what="the decision to be taken back")
    page.press_key("s")
    page.wait_for_texts("3 of 4")
    page.press_key("b")
    page.wait_for_texts("2 of 4")
    page.click('//*[translate(text(), "filter", "FILTER")="FILTER"]')  # the heading of the sidebar
    page.wait_for_texts("Click the picture to use the keys")
    page.press_key("a")
    assert shown(page)[1].startswith("2 of 4")


def test_decisions_while_the_server_is_slow_are_neither_lost_nor_given_to_another_mask(page, drawn):
    open_panel(page, drawn)
    page.wait_for_texts("1 of 4", "4 undecided")
    # The pictures of all four are here, three of them out of sight.
    ahead = "return document.querySelectorAll('[data-label-id] img').length"
    wait_for(lambda: page.browser.execute_script(ahead) == 4, what="the next pictures")
    hold_answers(page)
    seen = []
    for key in ("a", "r", "a"):
        seen.append(shown(page)[0])
        page.press_key(key)
        wait_for(lambda: shown(page)[0] not in seen, what="the next picture, without an answer")
        done = len(seen)
        assert shown(page)[1].startswith(f"{done + 1} of 4 · {(done + 1) // 2} accepted, {done // 2} rejected")
    assert not any(decisions(drawn)[label] for label in seen[1:])  # the first is not answered yet
    leaving = "return !window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"
    assert page.browser.execute_script(leaving)  # the browser asks before it leaves the page
    release_answers(page)
    wait_for(lambda: [decisions(drawn)[label] for label in seen] == ["accepted", "rejected", "accepted"])
    wait_for(lambda: not page.browser.execute_script(leaving), what="the page to close without a question")
    page.wait_for_texts("4 of 4", "2 accepted, 1 rejected, 1 undecided")
    assert list(decisions(drawn).values()).count(None) == 1


def test_a_double_click_is_one_decision(page, drawn):
    open_panel(page, drawn)
    page.wait_for_texts("1 of 4", "4 undecided")
    click = "arguments[0].dispatchEvent(new MouseEvent('click', { bubbles: true, detail: arguments[1] }));"
    both = f"{click} {click.replace('arguments[1]', 'arguments[1] + 1')}"  # at once, however busy the machine is
    page.browser.execute_script(both, page.wait(button("a")), 1)
    page.wait_for_texts("2 of 4", "1 accepted, 0 rejected, 3 undecided")
    wait_for(lambda: list(decisions(drawn).values()).count("accepted") == 1, what="the decision")
    page.click(button("r"))
    page.wait_for_texts("3 of 4", "1 accepted, 1 rejected, 2 undecided")


def test_in_the_modal_it_starts_with_the_open_sample(page, masks):
    page.open(masks)
    page.open_sample()
    page.click('//*[normalize-space(.)="Review masks"]')
    page.wait_for_texts("1 of 4", "prompt from boxes")
    page.screenshot("review_modal")
    page.click(button("r"))
    page.wait_for_texts("2 of 4", "0 accepted, 1 rejected, 3 undecided")
    page.press_key("a")
    page.wait_for_texts("3 of 4", "1 accepted, 1 rejected, 2 undecided")
    wait_for(lambda: "accepted" in decisions(masks).values(), what="the decision")
    [rejected] = [name for name, label in stored(masks).items() if label.get("review") == "rejected"]
    assert rejected in PEOPLE
