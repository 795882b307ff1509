"""What each run did, of the App or a job, recorded with the dataset as a FiftyOne run."""

import os
import re
import socket
from datetime import datetime, timedelta, timezone
from typing import Any

import fiftyone as fo
import psutil
from bson import ObjectId
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam import host
from fiftyone_mobilesam.database import DATABASE_WAIT, patiently
from fiftyone_mobilesam.engine.report import INTERRUPTED, RUNNING, STOPPED, UNDONE, Report, count
from fiftyone_mobilesam.fields import FRAMES
from fiftyone_mobilesam.options import PROMPT_FIELDS
from mobilesam import FieldError, __version__
from mobilesam.errors import JobError

METHOD, JOB_METHOD = "mobilesam", "mobilesam_job"  # the latter of jobs that versions before 0.2 recorded
PREFIX = "mobilesam_"
SILENCE = timedelta(minutes=10)  # after which a run of another machine is taken for dead
SECONDS_AT_AN_END = 10.0  # to wait for a database whose absence may be why the run ended


class RunRecord:
    """The record of a run, kept by the dataset of the samples that it was called on, with their view for `resume`.

    Args:
        samples, key, report: of the run.
        call: the keywords of the call, JSON serializable.
        made_from: the name of what its masks are made from, see `identity`.
        is_job: whether it has the label field for itself, and its labels a journal.
        wait: how long to wait for the database, in seconds.
    """

    def __init__(
        self,
        samples: SampleCollection,
        key: str,
        report: Report,
        call: dict[str, Any],
        *,
        made_from: str,
        is_job: bool = False,
        wait: float = DATABASE_WAIT,
    ):
        self.samples, self.key, self.report, self.wait = samples, key, report, wait
        self.dataset = host.root_dataset(samples)
        shown_as_samples = host.is_frames_view(samples) and not report.into.startswith(FRAMES)
        label_field = FRAMES + report.into if shown_as_samples else report.into
        self.facts = {
            "label_field": label_field,
            "call": call,
            "is_job": is_job,
            "made_from": made_from,
            "started": _now(),
            "process": {"host": socket.gethostname(), **_process(os.getpid())},
            "versions": {"mobilesam": __version__, "fiftyone": fo.__version__},
            "paths_before": sorted(paths_in(self.dataset, label_field)),
        }
        self.field_is_new = self.field_was_new  # as this call finds it
        self._failures_saved = -1
        patiently(self._register, wait=wait)

    @property
    def field_was_new(self) -> bool:
        """Whether the label field came with the run, or with the first call of a job."""
        return self.facts["label_field"] not in self.facts["paths_before"]

    def save(self) -> None:
        """Write state, counts, and failures if there are new ones."""
        wait = min(self.wait, SECONDS_AT_AN_END) if self.report.state == STOPPED else self.wait
        patiently(lambda: self.dataset.update_run_config(self.key, self._config()), wait=wait)
        if len(self.report.failures) != self._failures_saved:
            results = self.dataset.init_run_results(self.key, failures=[vars(f) for f in self.report.failures])
            save = self.dataset.save_run_results
            patiently(lambda: save(self.key, results, overwrite=True, cache=False), wait=wait)
            self._failures_saved = len(self.report.failures)

    def _config(self) -> Any:
        counts = self.report.tick().counts()
        return self.dataset.init_run(method=METHOD, **self.facts, state=counts["state"], counts=counts, updated=_now())

    def _register(self) -> None:
        """Register the run; of a job that goes on, keep what was known before it first began."""
        if self.dataset.has_run(self.key):
            before = self.dataset.get_run_info(self.key).config
            if getattr(before, "paths_before", None) is not None and before.state != UNDONE:
                self.facts |= {"paths_before": before.paths_before, "started": before.started}
            same_method = before.method == METHOD
            if same_method and host.stages(self.dataset.load_run_view(self.key)) == host.stages(self.samples):
                self.dataset.update_run_config(self.key, self._config())
                return
        self.samples.register_run(self.key, self._config(), overwrite=True)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def run_key(label_field: str) -> str:
    """Return a new key for a run that fills a field."""
    name = re.sub(r"[^a-zA-Z0-9]", "_", label_field)
    return f"{PREFIX}{name}_{datetime.now(timezone.utc):%Y%m%d_%H%M%S}_{str(ObjectId())[-4:]}"


def job_key(job: str) -> str:
    """Return the key of a job's run."""
    if not job or not f"{PREFIX}{job}".isidentifier():
        instead = re.sub(r"\W", "_", str(job)) or "nightly"
        raise ValueError(f"job must be letters, digits and underscores, such as {instead!r}, got {job!r}.")
    return f"{PREFIX}{job}"


def call_of(config: Any) -> dict[str, Any]:
    """Return the keywords that a run was called with, under the names of today."""
    call = dict(getattr(config, "call", None) or getattr(config, "settings", None) or {})
    if "devices" in call:
        call["device"] = call.pop("devices")
    return call


def describe_field(dataset: fo.Dataset, key: str) -> None:
    """Write into the description of a run's label field where its labels come from."""
    config = dataset.get_run_info(key).config
    field = dataset.get_field(config.label_field)
    if field is None:  # nothing was written
        return
    prompts = ", ".join(f"{value!r}" for name, value in call_of(config).items() if name in PROMPT_FIELDS and value)
    field.description = f"MobileSAM masks of {prompts or 'everything in the image'}"
    field.info = {**(field.info or {}), "mobilesam_run": key}
    field.save()


def list_runs(dataset: fo.Dataset) -> list[str]:
    """Return the keys of the runs that are there to be undone, latest first."""
    keys = [*dataset.list_runs(method=METHOD), *dataset.list_runs(method=JOB_METHOD)]
    infos = [dataset.get_run_info(key) for key in keys]
    kept = [info for info in infos if state_of(info.config) != UNDONE]
    return [info.key for info in sorted(kept, key=lambda info: info.timestamp, reverse=True)]


def runs_into(dataset: fo.Dataset, label_field: str) -> set[str]:
    """Return the keys of the runs that fill a field and are there to be undone."""
    return {key for key in list_runs(dataset) if label_field_of(dataset.get_run_info(key).config) == label_field}


def settings_of(dataset: fo.Dataset, label_field: str) -> dict[str, Any]:
    """Return what the latest run that filled a field was called with, less what has no value; {} if none is known."""
    configs = (dataset.get_run_info(key).config for key in list_runs(dataset))
    filled = next((config for config in configs if label_field_of(config) == label_field), None)
    return {} if filled is None else {name: value for name, value in call_of(filled).items() if value is not None}


def state_of(config: Any) -> str:
    """Return the state of a run."""
    return getattr(config, "state", None) or getattr(config, "counts", {}).get("state", UNDONE)


def is_going_on(config: Any) -> bool:
    """Whether a run has not ended and its process is there; of one on another machine, whether it was heard of lately.

    A run that was killed stays "running" for ever.
    """
    if state_of(config) != RUNNING:
        return False
    process = getattr(config, "process", None) or {}
    if process.get("host") == socket.gethostname():
        return _process(process["pid"]) == {"pid": process["pid"], "born": process["born"]}
    heard = getattr(config, "updated", None)
    return heard is not None and datetime.now(timezone.utc) - datetime.fromisoformat(heard) < SILENCE


def _process(pid: int) -> dict[str, Any]:
    """Return what tells a process from others that had its number."""
    try:
        return {"pid": pid, "born": psutil.Process(pid).create_time()}
    except psutil.Error:
        return {"pid": pid, "born": None}


def describe(key: str, config: Any) -> str:
    """Return what a person knows a run by: its field, when it began, how many masks it made, how it ended."""
    began = getattr(config, "started", None) or getattr(config, "updated", None)
    when = [] if began is None else [said(datetime.fromisoformat(began))]
    counts, state = getattr(config, "counts", None) or {}, state_of(config)
    masks = [count(counts["masks"], "mask")] if counts.get("masks") else []
    ending = {RUNNING: "going on" if is_going_on(config) else "ended by a kill", INTERRUPTED: "stopped by hand"}
    job = [f"job {key.removeprefix(PREFIX)}"] if is_job(config) else []
    return ", ".join([label_field_of(config), *job, *when, *masks, ending.get(state, state)])


def said(when: datetime) -> str:
    """Return a time as people write it, of where this runs: 27 Nov 2026, 13:42."""
    local = when.astimezone()
    return f"{local.day} {local:%b %Y, %H:%M}"


def label_field_of(config: Any) -> str:
    """Return the path of the field that a run fills, in the dataset that keeps its record."""
    return getattr(config, "label_field", None) or call_of(config)["label_field"]


def check_no_other_job(dataset: fo.Dataset, job: str, call: dict[str, Any]) -> None:
    """Check that no other job fills the same field from other prompts."""
    for key in list_runs(dataset):
        config = dataset.get_run_info(key).config
        other = call_of(config)
        # Frames may have been labelled as samples of a view, whose fields lack the prefix.
        prompts, theirs = (
            [said[name].removeprefix(FRAMES) for name in PROMPT_FIELDS if said.get(name)] for said in (call, other)
        )
        same_field = label_field_of(config).removeprefix(FRAMES) == call["label_field"].removeprefix(FRAMES)
        if is_job(config) and key != job_key(job) and same_field and theirs != prompts:
            raise FieldError(
                f"label_field must be a job's own, got {call['label_field']!r}, which job {key.removeprefix(PREFIX)!r} "
                f"fills from {', '.join(theirs) or 'no prompts'}. Use another name, or pass overwrite=True."
            )


def is_job(config: Any) -> bool:
    """Whether a run has its label field for itself."""
    return config.method == JOB_METHOD or getattr(config, "is_job", False)


def find_job(job: str, dataset: str | None = None) -> tuple[fo.Dataset, Any]:
    """Return the dataset of a job and its record: `call`, `counts`, `updated`. One dataset must have such a job."""
    wanted = {"key": job_key(job), "config.method": {"$in": [METHOD, JOB_METHOD]}}
    ids = [run["_dataset_id"] for run in host.database().runs.find(wanted, {"_dataset_id": 1})]
    datasets = host.database().datasets.find({"_id": {"$in": ids}}, {"name": 1})
    names = sorted(found["name"] for found in datasets if dataset in (None, found["name"]))
    if len(names) != 1:
        where = f"of dataset {dataset!r}" if dataset else "of one dataset"
        found = f"which is in {', '.join(names)}" if names else "which is not there"
        raise JobError(f"job must be one {where}, got {job!r}, {found}. Check the name, or name the dataset.")
    loaded = fo.load_dataset(names[0])
    return loaded, loaded.get_run_info(job_key(job)).config


def failures_of_run(dataset: fo.Dataset, key: str) -> list[dict[str, Any]]:
    """Return what failed in a run: `sample_id`, `prompt_id`, `filepath` and `reason` each."""
    results = dataset.load_run_results(key, cache=False, load_view=False)
    return [] if results is None else results.failures


def paths_in(dataset: fo.Dataset, label_field: str) -> set[str]:
    """Return the paths of a field and of all in it that the schema knows."""
    schema = dataset.get_field_schema(flat=True)
    schema |= {FRAMES + path: field for path, field in (dataset.get_frame_field_schema(flat=True) or {}).items()}
    return {path for path in schema if path == label_field or path.startswith(label_field + ".")}
