"""The buttons that make masks, as a user presses them."""

import fiftyone as fo
import pytest
from scenes import LEFT, RIGHT, detections, draw_scene, ellipse_box, ellipse_mask, full_mask, iou

BOXES = ellipse_box(*LEFT), ellipse_box(*RIGHT)


@pytest.fixture
def dataset(tmp_path) -> fo.Dataset:
    """Four scenes with boxes, one of which is outside its image."""
    from PIL import Image

    dataset = fo.Dataset()
    for number in range(4):
        path = tmp_path / f"{number}.png"
        Image.fromarray(draw_scene([LEFT, RIGHT])).save(path)
        boxes = detections(*BOXES) if number else detections(*BOXES, [2, 2, 1, 1])
        dataset.add_sample(fo.Sample(filepath=str(path), boxes=boxes))
    dataset.persistent = True  # the App's server is another process
    yield dataset
    dataset.delete()


def test_the_button_over_the_grid(page, dataset):
    page.open(dataset)
    page.press_icon()
    page.text("Put the masks into")
    page.screenshot("grid_form")
    page.press("Segment")
    page.wait('//*[contains(text(), "images/s")]')
    page.wait('//button[normalize-space(.)="Stop and keep what is done"]')
    page.text("Masks are ready", seconds=120)
    page.text("must overlap the image")
    page.text("Masks by predicted IoU")
    page.screenshot("grid_result")
    page.press("Show failures")
    page.text("The grid now shows 1 image with failures")
    page.press("Done")
    page.wait('//*[normalize-space(.)="1 sample"]')
    dataset.reload()
    assert dataset.count("boxes_masks.detections.mask") == 8
    assert iou(full_mask(dataset.last().boxes_masks.detections[0]), ellipse_mask(*LEFT)) > 0.95
    page.open(dataset)
    page.open_sample()
    page.text("boxes_masks")
    page.screenshot("modal_masks")


def test_the_button_of_the_open_sample(page, dataset):
    page.open(dataset)
    page.open_sample()
    page.press_icon('//*[@data-cy="modal"]')
    page.text("All labels of this sample will be segmented")
    page.press("Segment")
    page.text("Masks are ready", seconds=120)
    page.press("Done")
    new_field = '//*[@data-cy="modal"]//*[text()="boxes_masks"]'
    try:
        page.wait(new_field, seconds=20)
    except TimeoutError:  # on a busy machine the App can miss that an open sample has a new field
        page.open(dataset)
        page.open_sample()
        page.wait(new_field)
    dataset.reload()
    assert dataset.count("boxes_masks") == 1


def test_the_result_leads_to_the_review(page, dataset):
    page.open(dataset)
    page.press_icon()
    page.press("Segment")
    page.text("Masks are ready", seconds=120)
    page.press("Review worst first")
    page.press("Done")
    page.wait('//*[contains(., "0 accepted, 0 rejected, 9 undecided")]')


def test_stop_and_undo(page, dataset):
    page.open(dataset)
    page.press_icon()
    page.press("Segment")
    page.press("Stop and keep what is done")
    page.text("Stopped; what was done is kept", seconds=120)
    dataset.reload()
    assert dataset.count("boxes_masks") < 4
    page.press("Undo")
    page.text("are deleted")
    page.press("Undo")
    page.text("Labels removed")
    dataset.reload()
    assert not dataset.has_field("boxes_masks")


def test_labels_that_people_drew_are_replaced_after_a_second_yes_and_come_back(page, dataset):
    for sample in dataset:
        sample["truth"] = detections([0.1, 0.1, 0.2, 0.2])
        sample.save()
    before = dataset.values("truth.detections.id")
    page.open(dataset)
    page.press_icon()
    page.click('//input[@value="boxes_masks"]')
    page.click('//li[contains(., "truth")]')
    page.text("has labels already")
    page.screenshot("existing_keep")
    page.click('//*[text()="Replace all labels of these images"]')
    page.text("4 labels would be replaced")
    page.click('//*[contains(text(), "Yes, replace 4 labels")]')
    page.screenshot("existing_replace")
    page.press("Segment")
    page.text("Masks are ready", seconds=120)
    page.press("Undo")
    page.text("4 labels that it replaced come back")
    page.screenshot("undo_form")
    page.press("Undo")
    page.text("Labels that are back")
    dataset.reload()
    assert dataset.values("truth.detections.id") == before


def test_detect_then_segment_opens_with_boxes_that_are_there(page, dataset):
    page.open(dataset)
    page.run("Detect, then segment")
    page.text("Nothing is detected")
    page.screenshot("detect_form")
    assert not page.find('//*[contains(text(), "This will not work yet")]')
