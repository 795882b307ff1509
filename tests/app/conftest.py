"""Fixtures that drive the real App on 127.0.0.1 in headless Chromium, with no network beyond it.

    def test_something(app, browser, make_dataset):
        browser.open_dataset(make_dataset({}).name)
        browser.run_operator("Segment with MobileSAM")
        browser.click(css="[data-cy='some-button']")
        browser.screenshot("what_was_seen")

Screenshots go to `test_artifacts/`; a failing test leaves one by itself.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from servers import SECONDS, answers, free_port, until

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "test_artifacts"
PLUGIN = "@mobilesam/fiftyone-mobilesam"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--window-size=1500,950",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="session")
def app(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """The App's server with this checkout as a plugin: `url`, `log`, `plugins_dir`."""
    fiftyone = importlib.util.find_spec("fiftyone")
    if fiftyone is None:
        pytest.skip("fiftyone is not installed")
    folder, port = tmp_path_factory.mktemp("app"), free_port()
    link = folder / "plugins" / PLUGIN
    link.parent.mkdir(parents=True)
    link.symlink_to(ROOT, target_is_directory=True)
    settings = {"FIFTYONE_PLUGINS_DIR": str(folder / "plugins"), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-W", "ignore", "main.py", "--address", "127.0.0.1", "--port", str(port)]
    log = folder / "app.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            cwd=Path(fiftyone.origin).parent / "server",
            env=os.environ | settings,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(url), lambda: f"the App did not start:\n{log.read_text()[-3000:]}")
        yield SimpleNamespace(url=url, log=log, plugins_dir=folder / "plugins")
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def driver():
    """Headless Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    for name, path in (("chromium", chromium), ("chromedriver", chromedriver)):
        if path is None:
            pytest.skip(f"{name} is not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in FLAGS:
        options.add_argument(flag)
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    no_advert = "localStorage.setItem('fiftyone-enterprise-tooltip-seen', 'true')"  # it would cover the page
    chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": no_advert})
    yield chrome
    chrome.quit()


@pytest.fixture
def browser(app, driver, request) -> Iterator["Browser"]:
    """The browser at the App; leaves a screenshot when the test fails."""
    window = Browser(driver, app.url)
    failed_before = request.session.testsfailed
    yield window
    if request.session.testsfailed > failed_before:
        window.screenshot(f"failed_{request.node.name}")
    driver.get("about:blank")


class Browser:
    """What a user does in the App. Waits are for what is seen, never for the network: fonts fail offline."""

    def __init__(self, driver: Any, url: str):
        self.driver = driver
        self.url = url

    def open_dataset(self, name: str) -> None:
        """Open a dataset's page and wait for its grid."""
        self.driver.get(f"{self.url}/datasets/{name}")
        self.find(css="[data-cy='looker'] canvas[canvas-loaded='true']")

    def open_sample(self) -> None:
        """Open the first sample of the grid."""
        self.click(css="[data-cy='looker']")
        self.find(css="[data-cy='modal']")

    def find(self, *, css: str | None = None, text: str | None = None, seconds: float = SECONDS) -> Any:
        """Wait for a visible element, by CSS selector or by its whole text."""
        elements = until(lambda: self.visible(css=css, text=text), lambda: f"{css or text!r} did not appear", seconds)
        return elements[0]

    def visible(self, *, css: str | None = None, text: str | None = None) -> list[Any]:
        """Return the visible elements now, innermost first when asked by text."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.common.by import By

        try:
            if css is not None:
                found = self.driver.find_elements(By.CSS_SELECTOR, css)
            else:
                found = self.driver.find_elements(By.XPATH, f"//*[normalize-space(.)={text!r}]")[::-1]
            return [element for element in found if element.is_displayed()]
        except StaleElementReferenceException:  # the App has redrawn in between
            return []

    def click(self, *, css: str | None = None, text: str | None = None, seconds: float = SECONDS) -> None:
        """Wait for an element and click it, again if the App redraws it meanwhile."""
        from selenium.common.exceptions import WebDriverException

        reason = None

        def clicked() -> bool:
            nonlocal reason
            try:
                self.find(css=css, text=text, seconds=1).click()
            except (WebDriverException, AssertionError) as error:
                reason = error
            else:
                return True

        until(clicked, lambda: f"{css or text!r} could not be clicked: {reason}", seconds)

    def press(self, key: str) -> None:
        """Press a key anywhere on the page."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(key).perform()

    def run_operator(self, label: str) -> None:
        """Choose an operator by its label in the operator browser, which opens at the backtick key.

        An operator with a form shows it: fill it in and click `Execute`.
        """
        self.press("`")
        self.find(css="[data-cy='operators-browser-search']").send_keys(label)
        self.click(text=label)

    def screenshot(self, name: str) -> Path:
        """Save what is seen now."""
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / f"{name}.png"
        self.driver.save_screenshot(str(path))
        return path
