"""`fom.label`: masks for a dataset or view of any size."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.database import DATABASE_WAIT, patiently
from fiftyone_mobilesam.engine.identity import identity, name_of_weights, resolved_precision
from fiftyone_mobilesam.engine.report import Report, keeping_books
from fiftyone_mobilesam.engine.run import Settings, processes, run
from fiftyone_mobilesam.jobs.former import former_name
from fiftyone_mobilesam.keep import Names
from fiftyone_mobilesam.options import Options, check_count
from fiftyone_mobilesam.replaced import Replaced
from fiftyone_mobilesam.runs import RunRecord, call_of, check_no_other_job, failures_of_run, find_job, job_key
from fiftyone_mobilesam.sinks.dataset import DatasetSink
from fiftyone_mobilesam.sinks.form import DatasetForm
from fiftyone_mobilesam.sinks.track_form import TrackForm
from fiftyone_mobilesam.sources.dataset import DatasetSource
from mobilesam.propagation import Drift
from mobilesam.weights import absolute_weights

MAX_PIXELS = 2 * 89_478_485  # where Pillow refuses an image as a decompression bomb


def label(
    samples: SampleCollection,
    prompt_field: str | None = None,
    label_field: str = "masks",
    *,
    job: str = "label",
    workers: int = 1,
    device: str | Sequence[str] | None = None,
    output_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    weights: str | Path = "mobile_sam.pt",
    precision: str = "fp32",
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
    database_wait: float = DATABASE_WAIT,
    propagate: bool = False,
    drift: Drift | Mapping[str, float] | None = None,
    **options: Any,
) -> Report:
    """Make masks for a dataset or view of any size. The same call again does what is missing, whatever happened.

    Labels are written sample by sample (of videos, frame by frame), each with a `fingerprint` of its prompts, the
    options, and the weights. A call makes the labels whose fingerprint is missing or differs, and no others: after a
    kill, a restart, a full disk, new prompts, or other options. Ids of output labels stay the same over all of that.
    Where only some prompts of a sample have changed the masks of the others stay as they are, with whatever was
    corrected by hand; a mask that was accepted in review stays, whatever the options, as long as its prompt does.

    Args:
        samples: images, groups (of which all image slices are taken), patches, videos, clips or frames.
        prompt_field: field whose labels are the prompts, with "frames." for videos. Default: segment everything.
        label_field: where the masks go, with "frames." for videos; the prompt field itself with `in_place=True`.
        job: name of the run of the dataset, `mobilesam_<job>`, that keeps its settings, state and failures.
        workers: processes on each device, each with its own model. 1 on one device is this process.
        device: where to run, such as "cpu", or ["cuda:0", "cuda:1"]. Default: a GPU if there is one, else the CPU.
        output_dir: folder for masks as `<label field>/<sample id>/<label id>.png`, 0 and 255, which labels then name in
            `mask_path`; a sample's own folder holds nothing else. Default: masks are in the database. A job that goes
            on with another folder leaves the files that are there where they are.
        cache_dir, weights, precision: see `load_model`.
        max_pixels: images of more pixels are failures. Default: 178,956,970, where Pillow suspects an attack.
        overwrite: whether labels in `label_field` that no job wrote may be replaced, until the job is undone. Default:
            FieldError.
        database_wait: seconds to wait for a database that is away.
        propagate: whether to carry each labeled object on through the frames of its video, or through the images in
            order; of `dataset.group_by("scene", order_by="number")` each group, and of a dataset of groups the slices
            of each. Labels of a track share `index` and `instance`. A later prompt with the same `instance`, or `label`
            and `index`, corrects the track: up to 50 images between two labels are carried from both. What was begun is
            computed again from its first image. Processes share out sequences.
        drift: when a track is lost: a `mobilesam.propagation.Drift`, or its settings by name.
        **options: of the masks and labels, see `fiftyone_mobilesam.options.Options`.

    Returns:
        What was done, what was up to date, and what failed, with reasons; a failed sample is tried again at the next
        call.

    Raises:
        FieldError: a field that is missing or does not fit.
        CheckpointError: the weights do not load, or the model fails its self-test.
        JobError: the job had to stop: the disk is full, or the database stays away. What is done is kept.
    """
    check_count("workers", workers)
    check_count("max_pixels", max_pixels)
    key, devices = job_key(job), processes(device, workers)
    if propagate:
        drift = _drift(drift, prompt_field, options)
    elif drift is not None:
        raise ValueError("drift must go with propagate=True: nothing is carried on without it.")
    for name, why in (("on_error", "a job goes on"), ("merge", "a job has its label_field for itself")):
        if options.get(name):
            raise TypeError(f"{name} must be left out: {why}.")
    call = {"prompt_field": prompt_field, "label_field": label_field, "job": job, "workers": workers}
    call |= {"device": devices[: len(devices) // workers] if device else None, "weights": absolute_weights(weights)}
    call |= {"output_dir": _absolute(output_dir), "cache_dir": _absolute(cache_dir), "precision": precision}
    call |= {"max_pixels": max_pixels, "overwrite": overwrite, "propagate": propagate}
    call |= {"drift": drift and asdict(drift), **options}
    parsed = Options.parse(prompt_field=prompt_field, **options)
    source = DatasetSource(samples, label_field, parsed, propagate=propagate, wait=database_wait)
    if not (overwrite or parsed.in_place):
        source.check_owner()
        check_no_other_job(source.root, job, call)
    precision = resolved_precision(precision, devices)
    others = {"drift": drift and asdict(drift), "on_disk": output_dir is not None or None}
    name = identity(name_of_weights(weights), precision, parsed, cached=cache_dir is not None, **others)
    former = [] if propagate else [former_name(parsed, call)]  # tracks are made otherwise now
    names = Names([name, *former], masks=parsed.refine)
    form_of = DatasetForm if drift is None else partial(TrackForm, drift=drift)
    form = form_of(source.label_field, parsed, names, call["output_dir"])
    settings = Settings(form, parsed, call["weights"], precision, call["cache_dir"], max_pixels)
    report = Report(job, label_field, total=len(source), call=call)
    kept = Replaced(source.root, key, wait=database_wait)
    if not source.root.has_run(key):  # a job of this name that was deleted
        patiently(kept.forget, wait=database_wait)
    record = RunRecord(samples, key, report, call, made_from=name, is_job=True, wait=database_wait)
    keep = None if record.field_is_new else partial(kept.keep, always=not record.field_was_new)
    sink = DatasetSink(source.documents, form, report, wait=database_wait, keep=keep)
    with keeping_books(report, record.save):
        patiently(source.declare, wait=database_wait)  # after the record: undo removes what was not there before
        items = source.pending(names, report, on_disk=output_dir is not None)
        run(items, sink, settings, devices, record.save)
        patiently(source.finish, wait=database_wait)
    return report


def failures_of_job(job: str, dataset: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield what has no mask: failed images, then prompts, `sample_id`, `prompt_id`, `filepath`, `reason` each.

    `dataset` is the one that has such a job, if it is not named.
    """
    loaded, record = find_job(job, dataset)
    call, key = call_of(record), job_key(job)
    yield from (failure for failure in failures_of_run(loaded, key) if failure["prompt_id"] is None)
    options = Options.parse(**{name: call[name] for name in Options.__dataclass_fields__ if name in call})
    source = DatasetSource(loaded.load_run_view(key), call["label_field"], options, wait=DATABASE_WAIT)
    for failure in source.prompt_failures():  # the labels have all of them
        yield vars(failure)


def _drift(drift: Any, prompt_field: str | None, options: dict[str, Any]) -> Drift:
    """Return when tracks end, once it is sure that there can be tracks."""
    if prompt_field is None:
        raise ValueError("propagate=True must go with prompt_field, got none: tracks start at prompts.")
    if others := sorted(options.keys() - {"confidence", "point_confidence_thresh"}):
        raise TypeError(f"{', '.join(others)} must be left out with propagate=True: tracks are not made with it.")
    if isinstance(drift, Drift):
        return drift
    if unknown := sorted(set(drift or {}) - Drift.__dataclass_fields__.keys()):
        known = ", ".join(Drift.__dataclass_fields__)
        raise TypeError(f"drift must have {known}, got {', '.join(unknown)}. Leave it out, or name one of them.")
    return Drift(**(drift or {}))


def _absolute(folder: str | Path | None) -> str | None:
    return None if folder is None else str(Path(folder).absolute())
