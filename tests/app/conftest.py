"""FiftyOne's real App with our plugin, driven in headless Chromium that reaches nothing but this machine."""

import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from waiting import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
ARTEFACTS = ROOT / "tests" / "artefacts"
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--window-size=1400,900",
    "--hide-scrollbars",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@pytest.fixture(scope="package")  # both end with the tests here: an open page takes half a processor
def app(tmp_path_factory, app_models) -> str:
    """The App's server with the checkout as a plugin; gives its address."""
    plugins = tmp_path_factory.mktemp("plugins")
    (plugins / "@mobilesam").mkdir()
    (plugins / "@mobilesam" / "fiftyone-mobilesam").symlink_to(ROOT)
    port = free_port()
    server = Path(fo.__file__).parent / "server"
    environment = {**os.environ, "FIFTYONE_PLUGINS_DIR": str(plugins), "HOME": str(tmp_path_factory.mktemp("home"))}
    environment["FIFTYONE_MODEL_ZOO_DIR"] = str(app_models)
    command = [sys.executable, "main.py", "--port", str(port), "--address", "127.0.0.1"]
    process = subprocess.Popen(command, cwd=server, env=environment)
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: urllib.request.urlopen(url).status == 200, seconds=120)
    yield url
    process.terminate()
    process.wait()


@pytest.fixture(scope="package")
def chromium() -> Any:
    """Headless Chromium, cut off from every other machine."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium, which drives the browser, is not installed")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in FLAGS:
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    no_advert = "localStorage.setItem('fiftyone-enterprise-tooltip-seen', 'true')"  # it would cover the page
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": no_advert})
    yield browser
    browser.quit()


@pytest.fixture
def page(app, chromium, request) -> "Page":
    """A page of the App. What it looked like at the end is kept in `tests/artefacts`."""
    page = Page(app, chromium)
    yield page
    page.screenshot(request.node.name)


class Page:
    """What a user does in the App."""

    def __init__(self, url: str, browser: Any):
        self.url = url
        self.browser = browser

    def open(self, dataset: fo.Dataset) -> None:
        """Open a dataset in the grid."""
        self.browser.get(f"{self.url}/datasets/{dataset.name}")
        self.wait('//*[@data-cy="looker"]//canvas[@canvas-loaded="true"]')

    def open_sample(self) -> None:
        """Open the first sample of the grid."""
        self.click('(//*[@data-cy="looker"])[1]')
        self.wait('//*[@data-cy="modal"]')

    def find(self, xpath: str) -> list[Any]:
        """Return what is visible."""
        return [element for element in self.browser.find_elements("xpath", xpath) if element.is_displayed()]

    def wait(self, xpath: str, seconds: float = 60) -> Any:
        """Wait until something is visible, and return the last such element, which lies on top."""
        return wait_for(lambda: self.find(xpath), seconds, what=xpath)[-1]

    def text(self, text: str, seconds: float = 60) -> Any:
        """Wait for a text."""
        return self.wait(f'//*[contains(text(), "{text}")]', seconds)

    def wait_for_texts(self, *texts: str, seconds: float = 60) -> None:
        """Wait until the page shows all of these."""

        def shown() -> str:
            return self.browser.find_element("tag name", "body").text

        try:
            wait_for(lambda: all(part in shown() for part in texts), seconds, what=" and ".join(texts))
        except TimeoutError as error:
            raise TimeoutError(f"{error}; the page shows:\n{shown()}") from error

    def click(self, xpath: str, seconds: float = 60) -> None:
        """Click what is visible, again if the App redraws it meanwhile."""
        wait_for(lambda: self.find(xpath)[-1].click() or True, seconds, what=xpath)

    def press(self, label: str) -> None:
        """Press a button."""
        self.click(f'//button[normalize-space(.)="{label}"]')

    def press_icon(self, inside: str = "") -> None:
        """Press our button over the grid, or in what `inside` selects."""
        self.click(f'{inside}//img[contains(@src, "fiftyone-mobilesam")]')

    def press_key(self, key: str, *, alt: bool = False) -> None:
        """Press a key anywhere on the page."""
        from selenium.webdriver import ActionChains, Keys

        chain = ActionChains(self.browser)
        (chain.key_down(Keys.ALT).send_keys(key).key_up(Keys.ALT) if alt else chain.send_keys(key)).perform()

    def run(self, operator: str) -> None:
        """Choose an operator in the operator browser."""
        self.press_key("`")
        field = self.wait('//input[contains(@placeholder, "Search operations")]')
        field.send_keys(operator)
        self.click(f'//*[contains(text(), "{operator}")]')

    def screenshot(self, name: str) -> Path:
        """Keep what the page looks like."""
        ARTEFACTS.mkdir(exist_ok=True)
        path = ARTEFACTS / f"{name}.png"
        self.browser.save_screenshot(str(path))
        return path
