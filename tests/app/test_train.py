"""Training in the App: from the panel to the form, and stopped while it learns."""

import fiftyone as fo
import pytest
from scenes import LEFT, RIGHT, detections, ellipse_box, true_ellipse


@pytest.fixture
def accepted(make_dataset):
    """Five scenes with two accepted masks each, and the boxes that these were made from."""
    rows = []
    for _ in range(5):
        prompts, masks = (
            detections(ellipse_box(*LEFT), [0.6, 0.1, 0.3, 0.7]),
            [true_ellipse(one) for one in (LEFT, RIGHT)],
        )
        for mask, prompt in zip(masks, prompts.detections, strict=True):
            mask["prompt_id"], mask["review"], mask.tags = prompt.id, "accepted", ["accepted"]
        rows.append({"boxes": prompts, "boxes_masks": fo.Detections(detections=masks)})
    dataset = make_dataset(*rows)
    dataset.add_dynamic_sample_fields()
    return dataset


def test_a_person_trains_from_the_panel_and_stops(page, accepted):
    page.open(accepted)
    page.click('//*[@data-cy="new-panel-btn"]')
    page.click('//*[@data-cy="new-panel-option-review_masks"]')
    page.wait_for_texts("Train on 10 accepted masks")
    page.screenshot("train_panel")
    page.click('//button[contains(., "Train on 10 accepted masks")]')
    page.wait_for_texts("10 accepted masks, in 5 images: about 1 to 2 minutes on a CPU")
    page.screenshot("train_form")
    page.press("Train")
    page.wait_for_texts("Part 1 of 3: loss", seconds=180)
    page.screenshot("train_progress")
    page.press("Stop and keep what is done")
    page.wait_for_texts("images left out", "Started from: mobile_sam.pt", seconds=180)
