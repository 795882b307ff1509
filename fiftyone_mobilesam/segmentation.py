"""One recorded run over a dataset or view: check, apply the model, write down what happened."""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import fiftyone as fo
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.fields import Target, labels_path
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.provenance import begin_run, describe_field, end_run, labels_of_run
from fiftyone_mobilesam.report import RunReport, RunStopped

SHOWN_FAILURES = 20


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done, total: images, or videos.
        masks, failed: masks made, and images and prompts that failed.
        seconds: since the run began.
        step: what is done, if there are several steps.
    """

    done: int
    total: int
    masks: int
    failed: int
    seconds: float
    step: str = ""

    def __str__(self) -> str:
        text = f"{self.step}{self.done:,} of {self.total:,} images, {self.masks:,} masks"
        if self.failed:
            text += f", {self.failed:,} failed"
        if self.done:
            rate = self.done / max(self.seconds, 1e-3)
            text += f", {rate:.1f} images/s, {_duration((self.total - self.done) / rate)} left"
        return text


def segment(
    samples: SampleCollection,
    label_field: str,
    *,
    device: str | None = None,
    precision: str = "fp32",
    batch_size: int = 1,
    num_workers: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Apply MobileSAM to samples, recorded so that it can be undone.

    Args:
        samples: dataset or view.
        label_field: where the masks go.
        device, precision: as in `fiftyone_mobilesam.load_model`.
        batch_size, num_workers: as in `apply_model`.
        on_progress: called now and then.
        stop: ends the run early when it is set. What is done is kept.
        **options: see `fiftyone_mobilesam.options.Options`.

    Returns:
        A summary, JSON serializable: `run` (its key), `state` ("completed" or "stopped"), `label_field`, `samples`,
        `masks`, `samples_without_prompts`, `failed_samples`, `failed_prompts`, `failures` (the first), `seconds`, and
        `predicted_iou`, a histogram with `edges` and `counts`.

    Raises:
        FieldError: a field that does not fit, before anything is done.
    """
    chosen = Options.parse(**options)
    Target(samples, label_field).check(chosen)
    from fiftyone_mobilesam.models import cached_model  # torch comes with it

    settings = {"device": device, "precision": precision, "batch_size": batch_size, **changed(chosen)}
    model = cached_model(device, precision, stop=stop)  # before the record: weights may not load
    key = model.run_key = begin_run(samples, label_field, settings)
    start = time.monotonic()
    state = "failed"
    try:
        samples.apply_model(
            model,
            label_field=label_field,
            batch_size=batch_size,
            num_workers=num_workers,
            skip_failures=False,  # the model raises for no sample: what is raised is a write that failed
            progress=follow(on_progress, stop, model),
            **changed(chosen),
        )
        state = "completed"
    except RunStopped:
        state = "stopped"
    finally:
        summary = _end(samples._root_dataset, key, state, model.last_run, time.monotonic() - start)
    return summary


def follow(
    on_progress: Callable[[Progress], None] | None, stop: threading.Event | None, model: Any = None, *, step: str = ""
) -> Callable[[Any], None]:
    """Return the callback for `apply_model(progress=...)` that reports, and ends the run if it is to stop.

    Args:
        on_progress, stop: see `segment`.
        model: ours, whose report is counted; None for another's.
        step: see `Progress`.
    """
    start = time.monotonic()

    def report(bar: Any) -> None:
        if stop is not None and stop.is_set():
            raise RunStopped
        if on_progress is not None:
            run = RunReport() if model is None else model.last_run
            seconds = time.monotonic() - start
            on_progress(Progress(bar.iteration, bar.total or 0, run.masks, len(run.failed), seconds, step))

    return report


def changed(options: Options) -> dict[str, Any]:
    """Return the options that are not the defaults, as keywords."""
    defaults = Options()
    names = [field.name for field in fields(Options)]
    return {name: getattr(options, name) for name in names if getattr(options, name) != getattr(defaults, name)}


def _end(dataset: fo.Dataset, key: str, state: str, report: RunReport, seconds: float) -> dict[str, Any]:
    failures = [asdict(failure) for failure in report.failed]
    summary = {
        "run": key,
        "state": state,
        "label_field": dataset.get_run_info(key).config.label_field,
        "samples": len(report.done) + len(report.empty) + len(report.failed_samples),
        "masks": report.masks,
        "samples_without_prompts": len(report.empty),
        "failed_samples": len(report.failed_samples),
        "failed_prompts": len(report.failed_prompts),
        "failures": failures[:SHOWN_FAILURES],
        "seconds": round(seconds, 1),
        "predicted_iou": iou_histogram(dataset, key) if report.masks else {"edges": [], "counts": []},
    }
    end_run(dataset, key, state, summary, failures)
    describe_field(dataset, key)
    return summary


def iou_histogram(dataset: fo.Dataset, key: str) -> dict[str, list]:
    """Count the masks of a run by predicted IoU, in bins of 0.05 from 0 to 1.05: it can pass 1 a little."""
    path = labels_path(dataset, dataset.get_run_info(key).config.label_field)
    counts, edges, _ = labels_of_run(dataset, key).histogram_values(f"{path}.predicted_iou", bins=21, range=[0, 1.05])
    return {"edges": [round(edge, 2) for edge in edges], "counts": counts}


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
