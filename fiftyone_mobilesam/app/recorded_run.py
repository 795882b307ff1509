"""One recorded run over a dataset or view: check, apply the model, write down what happened."""

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.app._stops import stoppable
from fiftyone_mobilesam.app.existing import keeper, settle
from fiftyone_mobilesam.engine.report import Report, RunStopped
from fiftyone_mobilesam.fields import Target, labels_path
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.runs import RunRecord, describe_field, run_key
from fiftyone_mobilesam.undo import labels_of_run

SHOWN_FAILURES = 20
SECONDS_A_BEAT = 60.0  # between two notes that a run is going on


class Progress(NamedTuple):
    """How far a run is: a share from 0 to 1, and what a person reads."""

    done: float
    text: str


def segment(
    samples: SampleCollection,
    label_field: str,
    *,
    device: str | None = None,
    precision: str = "fp32",
    weights: str = "mobile_sam.pt",
    batch_size: int = 1,
    existing: str | None = None,
    replace_own_work: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    step: str = "",
    **options: Any,
) -> dict[str, Any]:
    """Apply MobileSAM to samples, recorded so that it can be undone. Fields are checked before anything is done.

    Args:
        device, precision, weights, batch_size: as in `fiftyone_mobilesam.load_model` and `apply_model`.
        existing, replace_own_work: what becomes of labels that the field has, see `existing.settle`. They are kept
            unless this says otherwise, and undo brings back what is replaced.
        on_progress: called now and then.
        stop: ends the run early when it is set, as `_stops.stop(key)` does. What is done is kept.
        step: what is done, if there are several steps.
        **options: see `fiftyone_mobilesam.options.Options`.

    Returns:
        A summary, JSON serializable: `run` (its key), `state` ("finished" or "interrupted"), `label_field`, `samples`,
        `masks`, `samples_without_prompts`, `failed_samples`, `failed_prompts`, `failures` (the first), `seconds`, and
        `predicted_iou`, a histogram with `edges` and `counts`.
    """
    chosen = Options.parse(**options)
    Target(samples, label_field).check(chosen)
    samples, chosen = settle(samples, label_field, chosen, existing=existing, replace_own_work=replace_own_work)
    from fiftyone_mobilesam.engine.identity import identity, name_of_weights, resolved_precision  # torch comes with it
    from fiftyone_mobilesam.models import shared_model

    key, stop = run_key(label_field), stop or threading.Event()
    # Before the record: weights may not load.
    keep = keeper(samples, label_field, key, in_place=chosen.in_place)
    model = shared_model(device, precision, weights=weights, run=key, stop=stop, before_write=keep)
    call = {"device": device, "precision": precision, "weights": weights, "batch_size": batch_size, **chosen.changed()}
    resolved = resolved_precision(precision, [device])
    made_from = identity(name_of_weights(weights), resolved, chosen, cached=False)
    record = RunRecord(samples, key, Report(into=label_field, call=call), call, made_from=made_from)

    def beat() -> None:
        record.report = model.last_run
        record.save()

    try:
        with stoppable(key, stop):
            samples.apply_model(
                model,
                label_field=label_field,
                batch_size=batch_size,
                num_workers=0,
                skip_failures=False,  # the model raises for no sample: what is raised is a write that failed
                progress=follow(on_progress, stop, model, step=step, beat=beat),
                **{"on_error": "skip", **chosen.changed()},
            )
    except BaseException as error:
        model.last_run.end(error)
        if not isinstance(error, RunStopped):
            raise
    finally:
        beat()
        describe_field(record.dataset, key)
    return _summary(record)


def follow(
    on_progress: Callable[[Progress], None] | None,
    stop: threading.Event | None,
    model: Any = None,
    *,
    step: str = "",
    beat: Callable[[], None] | None = None,
) -> Callable[[Any], None]:
    """Return the callback for `apply_model(progress=...)` that reports, and ends the run if it is to stop.

    Of a `model` of ours the report says what has become of masks. `beat` is called once a minute.
    """
    start = last = time.monotonic()

    def report(bar: Any) -> None:
        nonlocal last
        if beat is not None and time.monotonic() - last > SECONDS_A_BEAT:
            beat()
            last = time.monotonic()
        if stop is not None and stop.is_set():
            raise RunStopped
        if on_progress is not None:
            run = Report() if model is None else model.last_run
            # FiftyOne counts videos where the report counts frames.
            shown = Report(total=bar.total or 0, done=bar.iteration, masks=run.masks)
            shown.failed_prompts, shown.seconds = run.failed + run.failed_prompts, time.monotonic() - start
            on_progress(Progress(shown.done / shown.total if shown.total else 0.0, step + shown.line()))

    return report


def _summary(record: RunRecord) -> dict[str, Any]:
    report, histogram = record.report, {"edges": [], "counts": []}
    if report.masks:  # in bins of 0.05 from 0 to 1.05: a predicted IoU can pass 1 a little
        path = f"{labels_path(record.dataset, record.facts['label_field'])}.predicted_iou"
        view = labels_of_run(record.dataset, record.key)
        counts, edges, _ = view.histogram_values(path, bins=21, range=[0, 1.05])
        histogram = {"edges": [round(edge, 2) for edge in edges], "counts": counts}
    return {
        "run": record.key,
        "state": report.state,
        "label_field": report.into,
        "samples": report.done + report.failed,
        "masks": report.masks,
        "samples_without_prompts": report.empty,
        "failed_samples": report.failed,
        "failed_prompts": report.failed_prompts,
        "failures": [vars(failure) for failure in report.failures[:SHOWN_FAILURES]],
        "seconds": round(report.tick().seconds, 1),
        "predicted_iou": histogram,
    }
