"""`label`: make masks for a dataset or view so that the same call, after whatever happened, does what is missing."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.jobs.database import DATABASE_WAIT, patiently
from fiftyone_mobilesam.jobs.engine import Engine, Record
from fiftyone_mobilesam.jobs.pool import pooled_records
from fiftyone_mobilesam.jobs.progress import JobReport
from fiftyone_mobilesam.jobs.record import JobRecord, check_no_other_job, run_key
from fiftyone_mobilesam.jobs.settings import Settings
from fiftyone_mobilesam.jobs.units import Unit, Units
from fiftyone_mobilesam.jobs.writer import Writer
from fiftyone_mobilesam.options import Options
from mobilesam.errors import JobError
from mobilesam.propagation import Drift
from mobilesam.weights import absolute_weights, load_state_dict, resolve, sha256_of_state

logger = logging.getLogger("fiftyone.mobilesam")
MAX_PIXELS = 2 * 89_478_485  # where Pillow refuses an image as a decompression bomb
SECONDS_A_LINE = 10.0


def label(
    samples: SampleCollection,
    prompt_field: str | None = None,
    label_field: str = "masks",
    *,
    job: str = "label",
    workers: int = 1,
    devices: Sequence[str] | None = None,
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
) -> JobReport:
    """See `fiftyone_mobilesam.label`."""
    devices = [devices] if isinstance(devices, str) else devices
    if not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers must be a whole number, 1 or more, got {workers!r}.")
    if not isinstance(max_pixels, int) or max_pixels < 1:
        raise ValueError(f"max_pixels must be a whole number, 1 or more, got {max_pixels!r}.")
    call = {"prompt_field": prompt_field, "label_field": label_field, "job": job, "workers": workers}
    call |= {"devices": devices and list(devices), "output_dir": _absolute(output_dir)}
    call |= {"cache_dir": _absolute(cache_dir)}
    call |= {"weights": absolute_weights(weights), "precision": precision, "max_pixels": max_pixels}
    if propagate and prompt_field is None:
        raise ValueError("propagate=True must go with prompt_field, got none: tracks start at prompts.")
    drift = _drift(drift, propagate=propagate, processes=workers * len(devices or [None]), options=options)
    call |= {"overwrite": overwrite, "propagate": propagate, "drift": drift and asdict(drift), **options}
    run_key(job)
    if "on_error" in options:
        raise TypeError("on_error must be left out: a job writes failures down and goes on.")
    if options.get("merge"):
        raise TypeError("merge must be left out: a job keeps its label_field for itself.")
    parsed = Options.parse(prompt_field=prompt_field, **options)
    settings = Settings(
        label_field=label_field.removeprefix("frames."),
        options=parsed,
        weights=str(weights),
        weights_sha256=sha256_of_state(load_state_dict(resolve(weights))),
        precision=precision,
        output_dir=call["output_dir"],
        max_pixels=max_pixels,
        cache_dir=call["cache_dir"],
        drift=drift,
    )
    units = Units(samples, label_field, parsed, propagate=propagate, wait=database_wait)
    if not (overwrite or parsed.in_place):
        units.check_owner()
        check_no_other_job(units.root, job, call)
    report = JobReport(job, units.root.name, label_field, total=len(units))
    patiently(units.declare, wait=database_wait)
    record = JobRecord(samples, report, call, wait=database_wait)
    with _keeping_books(report, record):
        _run(units, settings, list(devices or [None]) * workers, report, record)
        patiently(units.finish, wait=database_wait)
    return report


def _drift(
    drift: Drift | Mapping[str, float] | None, *, propagate: bool, processes: int, options: dict[str, Any]
) -> Drift | None:
    """Return when tracks end, None if there are none.

    Raises:
        TypeError: an option that means nothing with tracks.
        ValueError: `drift` without `propagate`, or several processes.
    """
    if not propagate:
        if drift is not None:
            raise ValueError("drift must go with propagate=True: nothing is carried on without it.")
        return None
    if processes > 1:
        raise ValueError(
            f"propagate=True must go with one process, got {processes}: a sequence is not divided. "
            "For more, run a job each on parts of the dataset, such as dataset[:100]."
        )
    if others := sorted(options.keys() - {"confidence", "point_confidence_thresh"}):
        raise TypeError(f"{', '.join(others)} must be left out with propagate=True: tracks are not made with it.")
    return drift if isinstance(drift, Drift) else Drift(**(drift or {}))


def _absolute(folder: str | Path | None) -> str | None:
    return None if folder is None else str(Path(folder).absolute())


def _run(units: Units, settings: Settings, devices: list[str | None], report: JobReport, record: JobRecord) -> None:
    writer = Writer(units.collection, settings, units.wait, lambda written: _book(report, written))
    if len(devices) == 1:
        records = _records(_todo(units, settings, report), settings, devices[0])
    else:
        records = pooled_records(_todo(units, settings, report), settings, devices)
    said = time.monotonic()
    try:
        for made in records:
            writer.add(made)
            if time.monotonic() - said > SECONDS_A_LINE:
                said = time.monotonic()
                record.save()
                logger.info("%s", report.line())
    finally:
        records.close()
        writer.flush()


def _records(units: Iterator[Unit], settings: Settings, device: str | None) -> Iterator[Record]:
    """Yield the records of units, made in this process. The model is loaded at the first."""
    for first in units:
        yield from Engine(settings, device).records(chain([first], units))


def _todo(units: Units, settings: Settings, report: JobReport) -> Iterator[Unit]:
    """Yield the units whose labels are missing or stale; count the others."""
    for unit, failed_prompts in units.pending(settings):
        if unit is None:
            report.up_to_date += 1
            report.failed_prompts += failed_prompts
        else:
            yield unit


def _book(report: JobReport, record: Record) -> None:
    for failure in record.failures:
        logger.warning("failed: %s", failure)
    if record.labels is None:
        report.failed += record.failures
    else:
        report.done += not record.unchanged
        report.up_to_date += record.unchanged
        report.masks += 0 if record.unchanged else record.masks
        report.failed_prompts += len(record.failures)
        report.tracks += record.tracks
        report.ended += record.ended


@contextmanager
def _keeping_books(report: JobReport, record: JobRecord) -> Iterator[None]:
    """Write down how a job ends, whatever ends it."""
    state, reason = "interrupted", None
    try:
        yield
        state = "finished"
    except Exception as error:
        state, reason = "stopped", str(error)
        record.wait = min(record.wait, SECONDS_A_LINE)
        raise
    finally:
        report.state, report.reason = state, reason
        try:
            record.save()
        except JobError as error:  # the database is away: that is why the job ends, and is told already
            logger.warning("The end of the job is not in its record: %s", error)
        (logger.info if report.ok else logger.warning)("%s", str(report).splitlines()[0])
