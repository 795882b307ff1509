"""Several processes of which some die: an image that kills is written down, and costs no other image."""

import os

import numpy as np
import pytest
from PIL import Image

from fiftyone_mobilesam.engine.item import Item, Outcome, SequenceItem
from fiftyone_mobilesam.engine.pool import DEATHS_AN_ITEM, pooled
from fiftyone_mobilesam.engine.run import Settings


class Kills:
    """A form that ends its process at items of one name, and makes nothing of the others."""

    def outcome(self, item, image, labeller) -> Outcome:
        if item.key.startswith("kills"):
            os._exit(9)
        return Outcome(item.key, masks=1)

    def outcomes(self, images, labeller):
        return ((item, self.outcome(item, image, labeller)) for item, image in images)


@pytest.fixture
def items(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "black.png")
    keys = ["kills", *(f"harmless {number}" for number in range(12))]
    return [Item(key=key, image=str(tmp_path / "black.png")) for key in keys]


def test_an_image_that_kills_its_process_costs_no_other_one(items, caplog):
    outcomes = [outcome for _, outcome in pooled(iter(items), Settings(Kills(), verify=False), ["cpu", "cpu"])]
    assert sorted(outcome.key for outcome in outcomes) == sorted(item.key for item in items)
    (killer,) = [outcome for outcome in outcomes if outcome.failures]
    (failure,) = killer.failures
    assert killer.key == "kills"
    assert f"{DEATHS_AN_ITEM} workers died at this image" in failure.reason
    assert all(outcome.masks == 1 for outcome in outcomes if outcome is not killer)
    assert caplog.text.count("died (exit code 9)") == DEATHS_AN_ITEM


def test_a_sequence_is_begun_again_elsewhere_and_its_images_are_given_once(items):
    killer, *others = items
    sequences = [SequenceItem([*others[:3], killer, *others[3:6]]), SequenceItem(others[6:])]
    found = list(pooled(iter(sequences), Settings(Kills(), verify=False), ["cpu", "cpu"]))
    assert sorted(item.key for item, _ in found) == sorted(item.key for item in items)
    assert all(item.key == outcome.key for item, outcome in found)
    lost = {outcome.key for _, outcome in found if outcome.failures}
    assert lost == {killer.key, *(item.key for item in others[3:6])}  # what comes after it depends on it
