"""How long a decision takes in the review panel, from the click or key to the next picture on the screen.

python benchmarks/review.py [--decisions 30] [--key] [--pause 0.5] [--checkout DIR]

It drives the App in headless Chromium over the masks of the 50 COCO images; the times are the browser's own.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import fiftyone as fo
import numpy as np
from app import ROOT, serve
from pycocotools import mask as rle
from selenium import webdriver
from selenium.webdriver.common.by import By

COCO = next(folder / "shared" / "coco50" for folder in ROOT.parents if (folder / "shared" / "coco50").is_dir())
FLAGS = ("--headless=new", "--no-sandbox", "--window-size=1400,1000", "--use-gl=angle", "--use-angle=swiftshader")
FLAGS += ("--enable-unsafe-swiftshader", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
# Notes when something is pressed, and when another picture is there and a frame has been drawn with it.
WATCH = """
window.pressed = null; window.times = [];
const shown = () => [...document.querySelectorAll('img[alt="The mask and its prompt"]')]
    .filter((image) => image.getBoundingClientRect().width && image.complete).map((image) => image.src).join();
let last = shown();
const note = () => { window.pressed ??= performance.now(); };
for (const name of ["click", "keydown"]) window.addEventListener(name, note, true);
const look = () => {
    const now = shown();
    if (now && now !== last) {
        if (window.pressed !== null) window.times.push(performance.now() - window.pressed);
        window.pressed = null; last = now;
    }
    requestAnimationFrame(look);
};
look();
"""


def coco_masks() -> fo.Dataset:
    """Return a dataset of the images and their true masks, as if they came from prompts, with qualities at random."""
    truth = json.loads((COCO / "instances.json").read_text())
    random = np.random.default_rng(0)
    dataset = fo.Dataset()
    [folder] = {path.parent for path in COCO.rglob("*.jpg")}
    for image in truth["images"]:
        height, width = image["height"], image["width"]
        prompts, masks = [], []
        for found in (a for a in truth["annotations"] if a["image_id"] == image["id"] and not a.get("iscrowd")):
            x, y, w, h = found["bbox"]
            box = [x / width, y / height, w / width, h / height]
            outlines = found["segmentation"]
            whole = rle.decode(rle.merge(rle.frPyObjects(outlines, height, width))).astype(bool)
            x0, y0, x1, y1 = int(x), int(y), int(np.ceil(x + w)), int(np.ceil(y + h))
            prompts.append(fo.Detection(label=str(found["category_id"]), bounding_box=box))
            mask = fo.Detection(label=prompts[-1].label, mask=whole[y0:y1, x0:x1])
            mask.bounding_box = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
            mask["prompt_id"], mask["mask_quality"] = prompts[-1].id, float(random.uniform(0.3, 1))
            masks.append(mask)
        fields = {"boxes": fo.Detections(detections=prompts), "masks": fo.Detections(detections=masks)}
        dataset.add_sample(fo.Sample(filepath=str(folder / image["file_name"]), **fields))
    dataset.add_dynamic_sample_fields()
    dataset.persistent = True
    return dataset


def open_panel(url: str, dataset: fo.Dataset) -> webdriver.Chrome:
    """Open the panel in a browser, and wait for its first picture."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    for flag in FLAGS:
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    browser.implicitly_wait(60)
    quiet = {"source": "localStorage.setItem('fiftyone-enterprise-tooltip-seen', 'true')"}
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", quiet)
    browser.get(f"{url}/datasets/{dataset.name}")
    browser.find_element(By.CSS_SELECTOR, '[data-cy="looker"]')
    time.sleep(3)
    browser.find_element(By.CSS_SELECTOR, '[data-cy="new-panel-btn"]').click()
    browser.find_element(By.CSS_SELECTOR, '[data-cy="new-panel-option-review_masks"]').click()
    browser.find_element(By.CSS_SELECTOR, 'img[alt="The mask and its prompt"]')
    time.sleep(3)
    return browser


def main() -> None:
    """Print the median and the spread of some decisions, and how long all of them took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--decisions", type=int, default=30)
    parser.add_argument("--key", action="store_true", help="press the key A instead of the button")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds to look at each picture")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="whose plugin is measured")
    arguments = parser.parse_args()
    dataset = coco_masks()
    with tempfile.TemporaryDirectory() as plugins:
        (Path(plugins) / "mobilesam").symlink_to(arguments.checkout.resolve())
        with serve(Path(plugins), arguments.checkout.resolve()) as url:
            browser = open_panel(url, dataset)
            browser.execute_script(WATCH)
            start = time.perf_counter()
            for done in range(arguments.decisions):
                if arguments.key:
                    webdriver.ActionChains(browser).send_keys("a").perform()
                else:
                    browser.find_element(
                        By.XPATH, '//button[@aria-keyshortcuts="a"] | //button[@accesskey="a"]'
                    ).click()
                while browser.execute_script("return window.times.length") <= done:
                    time.sleep(0.02)
                time.sleep(arguments.pause)
            seconds = time.perf_counter() - start
            times = browser.execute_script("return window.times")
            browser.quit()
    total = dataset.count("masks.detections")
    dataset.delete()
    print(f"{len(times)} decisions of {total} masks: median {statistics.median(times):.0f} ms, ", end="")
    print(
        f"{min(times):.0f} to {max(times):.0f} ms; {seconds:.1f} s in all, {arguments.pause} s of them a look at each"
    )
    print("in order, ms:", *(f"{ms:.0f}" for ms in times))


if __name__ == "__main__":
    main()
