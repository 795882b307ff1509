"""One network per process for the App, which executes the plugin's entry file again on every request."""

import threading
from collections.abc import Sequence
from typing import Any

import fiftyone as fo

from fiftyone_mobilesam import load_model
from fiftyone_mobilesam.fields import prompt_id_of
from fiftyone_mobilesam.prompts import single_labels
from fiftyone_mobilesam.report import RunStopped
from fiftyone_mobilesam.zoo import Job, MobileSAMModel, StopRun
from mobilesam import MaskCrop, SamPredictor

_predictors: dict[tuple[str | None, str], SamPredictor] = {}
_loading = threading.Lock()
_turn = threading.Lock()


class SharedModel(MobileSAMModel):
    """A model of a run of its own on the network that all runs of this process share, batch by batch in turn.

    Args:
        predictor: the shared network.
        stop: ends the run after the batch in which it is set.

    Attributes:
        run_key: written into the attribute `run` of each label, so that the run can be found, shown and undone. What
            is filled in place keeps the box it had before in `prompt_box`.
    """

    def __init__(self, predictor: SamPredictor, *, stop: threading.Event | None = None):
        super().__init__(predictor)
        self.run_key: str | None = None
        self.stop = stop or threading.Event()

    def predict_all(self, imgs: Sequence[Any], samples: Sequence[Any] | None = None) -> list[fo.Label | None]:
        """Predict as `MobileSAMModel` does, and mark what was predicted."""
        if self.stop.is_set():
            raise StopRun(RunStopped())
        with _turn:
            return super().predict_all(imgs, samples)

    def _label(self, job: Job, crops: list[MaskCrop | None]) -> fo.Label:
        boxes = {record.label.id: _box_of(record.label) for record in job.records}
        label = super()._label(job, crops)
        for detection in single_labels(label):
            if prompt_id_of(detection) in boxes:  # not those of other prompts, which `merge` keeps
                detection["run"] = self.run_key
                if self._options.in_place:
                    detection["prompt_box"] = boxes[detection.id]
        return label

    def _everything(self, job: Job) -> fo.Detections:
        label = super()._everything(job)
        for detection in label.detections:
            detection["run"] = self.run_key
        return label


def _box_of(label: fo.Label) -> list[float] | None:
    box = getattr(label, "bounding_box", None)
    return None if box is None else list(box)


def cached_model(
    device: str | None = None, precision: str = "fp32", *, stop: threading.Event | None = None
) -> SharedModel:
    """Return a model for one run. The network is loaded at the first call, then kept until `release_models`.

    Args:
        device, precision: as in `fiftyone_mobilesam.load_model`.
        stop: see `SharedModel`.
    """
    with _loading:
        if (device, precision) not in _predictors:
            _predictors[device, precision] = load_model(device=device, precision=precision).predictor
        return SharedModel(_predictors[device, precision], stop=stop)


def release_models() -> int:
    """Forget the networks of this process; return how many there were. Runs that are going on keep theirs."""
    with _loading:
        count = len(_predictors)
        _predictors.clear()
    return count
