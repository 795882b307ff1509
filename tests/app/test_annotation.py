"""Annotate -> AI in the App with MobileSAM: real clicks, the shipped browser code, no network."""

import shutil
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from scenes import LEFT, RIGHT, SIZE, draw_scene, ellipse_mask, full_mask, iou
from waiting import wait_for

pytest.importorskip("onnxruntime", reason="onnxruntime, which checks the exported files, is not installed")
SERVED = Path(__file__).resolve().parents[2] / "app_models"
INSIDE = (LEFT[0][0] + 20, LEFT[0][1] + 20)
SOURCE = 'return fetch("/runtime-assets/models/sam2/decoder.onnx").then((answer) => answer.json())'


@pytest.fixture
def dataset(tmp_path) -> fo.Dataset:
    """One scene without labels."""
    path = tmp_path / "scene.png"
    Image.fromarray(draw_scene([LEFT, RIGHT])).save(path)
    dataset = fo.Dataset()
    dataset.add_sample(fo.Sample(filepath=str(path)))
    dataset.persistent = True
    yield dataset
    dataset.delete()
    shutil.rmtree(SERVED, ignore_errors=True)


def choose(page, operator, button=None):
    """Run one of the two operators, and wait until the page has reloaded itself."""
    page.browser.execute_script("window.before = true")
    page.run(operator)
    if button is not None:
        page.press(button)
    wait_for(lambda: page.browser.execute_script("return window.before === undefined"), 180, what="the reload")
    page.wait("//canvas")


def click(page, point):
    """Click a pixel of the image in the open sample."""
    from selenium.webdriver import ActionChains

    canvas = page.wait('//*[@data-cy="lighter-sample-renderer-canvas"]')
    scale = min(canvas.rect["width"] / SIZE[0], canvas.rect["height"] / SIZE[1])
    x, y = ((point[i] - SIZE[i] / 2) * scale for i in (0, 1))
    ActionChains(page.browser).move_to_element_with_offset(canvas, x, y).pause(0.3).click().perform()


def labels(dataset) -> list[fo.Detection]:
    """Return what has been annotated so far."""
    dataset.reload()
    found = dataset.first()["annotations"]
    return found.detections if found else []


def begin(page, dataset):
    """Open the sample in the App's own annotation, click the left ellipse, and return its label."""
    page.open_sample()
    for name in ("annotate", "segmentation-mode", "ai"):
        page.wait(f'//*[@data-cy="{name}"]').click()
    click(page, LEFT[0])
    wait_for(lambda: len(labels(dataset)) == 1, 120, what="the label")
    return labels(dataset)[0]


def test_two_clicks_give_a_mask_of_mobilesam(page, dataset, sam):
    from mobilesam import SamPredictor

    page.open(dataset)
    choose(page, "Use MobileSAM for in-App annotation", "Use MobileSAM")
    assert page.browser.execute_script(SOURCE)["url"].startswith("/plugins/@mobilesam/fiftyone-mobilesam/app_models/")
    try:
        first = begin(page, dataset)
    except TimeoutError:  # the App loses a click that comes before it is ready, and does not show when it is
        page.open(dataset)
        first = begin(page, dataset)
    click(page, INSIDE)  # the App takes a click on what is selected already as a negative one
    wait_for(lambda: labels(dataset)[0].mask.tobytes() != first.mask.tobytes(), what="the second click's mask")
    page.screenshot("annotation")
    (label,) = labels(dataset)
    assert iou(full_mask(label), ellipse_mask(*LEFT)) > 0.95
    predictor = SamPredictor(sam)
    predictor.set_image(np.asarray(Image.open(dataset.first().filepath)))
    masks, scores, _ = predictor.predict(point_coords=np.array([LEFT[0], INSIDE]), point_labels=np.array([1, 0]))
    assert iou(full_mask(label), masks[scores.argmax()]) > 0.95

    page.open(dataset)
    choose(page, "Back to the default annotation model")
    assert page.browser.execute_script(SOURCE)["url"].startswith("https://")
    count = (
        "return new Promise((done) => { const r = indexedDB.open('fiftyone-models'); r.onsuccess = () => { const c = "
        "r.result.transaction('weights').objectStore('weights').count(); c.onsuccess = () => done(c.result) } })"
    )
    assert page.browser.execute_script(count) == 0


KEEP_A_FILE = """
const done = arguments[0];
localStorage.setItem("mobilesam-annotation-model", "/plugins/of/another/app_models/0/decoder.onnx");
const request = indexedDB.open("fiftyone-models", 1);
request.onupgradeneeded = () => request.result.createObjectStore("weights");
request.onsuccess = () => {
  const transaction = request.result.transaction("weights", "readwrite");
  transaction.objectStore("weights").put(new ArrayBuffer(8), "sam2:decoder.onnx");
  transaction.oncomplete = () => { request.result.close(); done(); };
};
"""
COUNT_FILES = """
const done = arguments[0];
const request = indexedDB.open("fiftyone-models", 1);
request.onsuccess = () => {
  const count = request.result.transaction("weights").objectStore("weights").count();
  count.onsuccess = () => { request.result.close(); done(count.result); };
};
"""


def test_a_browser_drops_the_files_of_a_model_that_the_server_has_no_more(page, dataset):
    page.open(dataset)
    page.browser.execute_async_script(KEEP_A_FILE)
    assert page.browser.execute_async_script(COUNT_FILES) == 1
    page.open(dataset)
    wait_for(lambda: page.browser.execute_async_script(COUNT_FILES) == 0, what="the removal")
    page.browser.execute_async_script(KEEP_A_FILE.replace("/plugins/of/another/app_models/0/decoder.onnx", "default"))
    page.open(dataset)
    assert page.browser.execute_async_script(COUNT_FILES) == 1  # the server's own model: nothing to drop
