"""The job as a run of its dataset: settings, state and counts in its config, failed samples in its results."""

import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import fiftyone as fo
from bson import json_util
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.jobs.database import DATABASE_WAIT, patiently
from fiftyone_mobilesam.jobs.progress import JobReport
from fiftyone_mobilesam.jobs.units import Units
from fiftyone_mobilesam.options import Options
from mobilesam.errors import FieldError, JobError

PREFIX, METHOD = "mobilesam_", "mobilesam_job"


class JobRecord:
    """The record of a job that runs.

    Args:
        samples: what the job was called on; its dataset keeps the record, and the view itself for `resume`.
        report: its books.
        call: the keywords of the call, for `resume`.
        wait: how long to wait for the database, in seconds.
    """

    def __init__(self, samples: SampleCollection, report: JobReport, call: dict[str, Any], *, wait: float):
        self.samples, self.report, self.call, self.wait = samples, report, call, wait
        self.dataset = samples._root_dataset
        self.key = run_key(report.job)
        self._failures_saved = -1
        patiently(self._register, wait=wait)

    def _config(self) -> Any:
        counts = {**self.report.as_dict(), "failed": len(self.report.failed), "ended": len(self.report.ended)}
        updated = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return self.dataset.init_run(method=METHOD, call=self.call, counts=counts, updated=updated)

    def _register(self) -> None:
        if self.dataset.has_run(self.key) and _stages(self.dataset.load_run_view(self.key)) == _stages(self.samples):
            self.dataset.update_run_config(self.key, self._config())
        else:
            self.samples.register_run(self.key, self._config(), overwrite=True)

    def save(self) -> None:
        """Write state, counts, and failures if there are new ones."""
        self.report.tick()
        patiently(lambda: self.dataset.update_run_config(self.key, self._config()), wait=self.wait)
        if len(self.report.failed) != self._failures_saved:
            results = self.dataset.init_run_results(self.key, failures=[vars(f) for f in self.report.failed])
            patiently(
                lambda: self.dataset.save_run_results(self.key, results, overwrite=True, cache=False), wait=self.wait
            )
            self._failures_saved = len(self.report.failed)


def _stages(samples: SampleCollection) -> list[str]:
    return [json_util.dumps(stage) for stage in samples.view()._serialize(include_uuids=False)]


def run_key(job: str) -> str:
    """Return the key of a job's run.

    Raises:
        ValueError: a name that cannot be one.
    """
    if not job or not f"{PREFIX}{job}".isidentifier():
        instead = re.sub(r"\W", "_", str(job)) or "nightly"
        raise ValueError(f"job must be letters, digits and underscores, such as {instead!r}, got {job!r}.")
    return f"{PREFIX}{job}"


def check_no_other_job(dataset: fo.Dataset, job: str, call: dict[str, Any]) -> None:
    """Check that no other job fills the same field from other prompts.

    Raises:
        FieldError: one does.
    """
    for key in dataset.list_runs(method=METHOD):
        other = dataset.get_run_info(key).config.serialize()["call"]
        names = ("prompt_field", "box_prompt_field", "point_prompt_field")
        prompts, theirs = ([said.get(name) for name in names if said.get(name)] for said in (call, other))
        if key != run_key(job) and other["label_field"] == call["label_field"] and theirs != prompts:
            raise FieldError(
                f"label_field must be a job's own, got {call['label_field']!r}, which job {key.removeprefix(PREFIX)!r} "
                f"fills from {', '.join(theirs) or 'no prompts'}. Use another name, or pass overwrite=True."
            )


def find_job(job: str, dataset: str | None = None) -> tuple[fo.Dataset, dict[str, Any]]:
    """Return the dataset of a job and its record: `call`, `counts`, `updated`.

    Args:
        job: its name.
        dataset: its dataset. Default: the one that has such a job.

    Raises:
        JobError: there is no such job, or several.
    """
    runs = fo.core.odm.get_db_conn().runs.find({"key": run_key(job), "config.method": METHOD}, {"_dataset_id": 1})
    ids = [run["_dataset_id"] for run in runs]
    datasets = fo.core.odm.get_db_conn().datasets.find({"_id": {"$in": ids}}, {"name": 1})
    names = sorted(found["name"] for found in datasets if dataset in (None, found["name"]))
    if len(names) != 1:
        where = f"of dataset {dataset!r}" if dataset else "of one dataset"
        found = f"which is in {', '.join(names)}" if names else "which is not there"
        raise JobError(f"job must be one {where}, got {job!r}, {found}. Check the name, or name the dataset.")
    loaded = fo.load_dataset(names[0])
    return loaded, loaded.get_run_info(run_key(job)).config.serialize()


def all_failures(job: str, dataset: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield what has no mask: failed samples, then prompts, `sample_id`, `prompt_id`, `filepath`, `reason` each."""
    loaded, record = find_job(job, dataset)
    call = record["call"]
    results = loaded.load_run_results(run_key(job), cache=False, load_view=False)
    yield from [] if results is None else results.failures
    options = Options.parse(**{name: call[name] for name in Options.__dataclass_fields__ if name in call})
    units = Units(loaded.load_run_view(run_key(job)), call["label_field"], options, wait=DATABASE_WAIT)
    for failure in units.prompt_failures():
        yield vars(failure)
