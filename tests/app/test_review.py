"""The panel "Review masks" in the App: seen, clicked and pressed as a user does."""

import fiftyone as fo
import pytest

from fiftyone_mobilesam.zoo import MobileSAMModel

PANEL = "Review masks"


@pytest.fixture
def masks(sam, photos, make_dataset):
    """A photograph with two masks from boxes."""
    boxes = {"tie": [439 / 1280, 437 / 720, 85 / 1280, 272 / 720], "person": [0.58, 0.06, 0.31, 0.93]}
    prompts = [fo.Detection(label=name, bounding_box=box) for name, box in boxes.items()]
    dataset = make_dataset({"filepath": str(photos["zidane"]), "detections": fo.Detections(detections=prompts)})
    dataset.apply_model(MobileSAMModel(sam), label_field="masks", prompt_field="detections", progress=False)
    return dataset


def test_look(browser, app, masks):
    import time

    d = browser.driver
    browser.open_dataset(masks.name)
    browser.click(css="[data-cy='new-panel-btn']")
    browser.screenshot("review_0")
    browser.click(css="[data-cy='new-panel-option-review_masks']")
    time.sleep(6)
    browser.screenshot("review_1")
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    ActionChains(d).key_down(Keys.ALT).send_keys("a").key_up(Keys.ALT).perform()
    time.sleep(3)
    browser.screenshot("review_2")
    print([(b.text, b.get_attribute("accesskey")) for b in browser.visible(css="button")])
    print(masks.values("masks.detections.tags"))
    print("active", d.execute_script("return document.activeElement.outerHTML.slice(0,300)"))
    ActionChains(d).key_down(Keys.ALT).send_keys("c").key_up(Keys.ALT).perform()
    time.sleep(12)
    browser.screenshot("review_3")
    for e in d.get_log("browser"):
        print(e["message"][:300])
    print([l for l in app.log.read_text().splitlines() if "EVENT" in l or "rror" in l])
    browser.open_dataset(masks.name)
    browser.open_sample()
    time.sleep(3)
    browser.screenshot("review_m0")
    d.find_elements("css selector", "[data-cy='modal'] [data-cy='new-panel-btn']")[0].click()
    time.sleep(1)
    d.find_elements("css selector", "[data-cy='new-panel-option-review_masks']")[-1].click()
    time.sleep(4)
    browser.screenshot("review_m1")
