"""The App itself: our plugin is in it, and the fixtures drive it."""

import json
import urllib.request

PLUGIN = "@mobilesam/fiftyone-mobilesam"


def test_plugin_loads_without_errors(app):
    with urllib.request.urlopen(f"{app.url}/plugins") as response:
        plugins = json.load(response)["plugins"]
    assert PLUGIN in {plugin["name"] for plugin in plugins}
    assert "Failed to" not in app.log.read_text()


def test_browser_opens_a_form_and_a_sample(browser, make_dataset):
    dataset = make_dataset({})
    browser.open_dataset(dataset.name)
    browser.run_operator("Clone sample field")
    browser.find(text="Execute")
    browser.open_dataset(dataset.name)
    browser.open_sample()
    browser.find(text="Annotate")
