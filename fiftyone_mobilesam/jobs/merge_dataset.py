"""Shards come home into the labels of a dataset. Doing it again changes nothing."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam.database import DATABASE_WAIT
from fiftyone_mobilesam.engine.item import Answer, Outcome, failed
from fiftyone_mobilesam.engine.records import crop_of
from fiftyone_mobilesam.engine.report import Report, keeping_books
from fiftyone_mobilesam.jobs.former import former_merge
from fiftyone_mobilesam.keep import Names
from fiftyone_mobilesam.options import MaskOptions, Options
from fiftyone_mobilesam.prompts import LabelPrompt, label_prompts
from fiftyone_mobilesam.sinks.dataset import DatasetSink
from fiftyone_mobilesam.sinks.form import DatasetForm
from fiftyone_mobilesam.sinks.shards import NOT_DONE, Shards, identity_of, read_note
from fiftyone_mobilesam.sources.dataset import DatasetItem, DatasetSource
from fiftyone_mobilesam.sources.manifest import check_samples, row_of_prompts


def merge_into_dataset(
    samples: SampleCollection, out: str | Path, *, label_field: str, overwrite: bool = False, **options: Any
) -> Report:
    """Write the labels that `fom.label` would have written, from the shards of a run.

    The same rules hold: ids stay, what was merged or labelled already with these settings stays as it is, with whatever
    was corrected by hand, and so do labels drawn by hand, and masks that were accepted in review as long as their
    prompt is what it was. Samples whose prompts or path have changed since the manifest are failures and keep what they
    have.

    Args:
        samples: that the manifest was written from.
        out: folder of the run. What its masks were made with is noted there.
        label_field: where the masks go.
        overwrite: whether labels in `label_field` that no job wrote may be replaced.
        **options: as for `write_manifest`, and of the labels: `box`, `confidence`, `in_place`.

    Raises:
        FieldError: a wrong field, or one with labels that no job wrote.
        FileNotFoundError: there are no shards.
        TypeError: an option that shards are made with, or that does not exist.
    """
    of_masks = [field.name for field in fields(MaskOptions)]
    if wrong := sorted(options.keys() & {*of_masks, "everything", "merge", "on_error"}):
        raise TypeError(
            f"{', '.join(wrong)} must be left out of a merge, or given to label_manifest, which makes masks."
        )
    shards, note = Shards(out), read_note(out)
    called = Options.parse(**options)
    parsed = replace(called, **{name: note[name] for name in of_masks if name in note})
    check_samples(samples, parsed)
    source = DatasetSource(samples, label_field, parsed, wait=DATABASE_WAIT)
    if not (overwrite or parsed.in_place):
        source.check_owner()
    form = DatasetForm(label_field, parsed, Names([identity_of(note, parsed)], masks=parsed.refine))
    report = Report("merge", label_field, total=len(source))
    sink = DatasetSink(source.documents, form, report, wait=DATABASE_WAIT)
    source.declare()
    with keeping_books(report, report.tick):
        for item in source.pending(form.names, report):
            sink.put(item, _merged(item, form, shards, [parsed, called]))
        sink.flush()
        source.finish()
    return report


def _merged(item: DatasetItem, form: DatasetForm, shards: Shards, called: Sequence[Options]) -> Outcome:
    """Return the outcome of a sample from the row that answers its prompts.

    `called` are options by which a merge of an earlier version may have named the same labels.
    """
    values = form.values(item, all_of_them=True)
    row = shards.get(row_of_prompts(item.key, item.image, label_prompts(values, form.options))["id"])
    if row is None and form.options.in_place:  # its boxes were moved to whole pixels since the manifest
        before = label_prompts(form.values(item, all_of_them=True, boxes=item.boxes), form.options)
        row = shards.get(row_of_prompts(item.key, item.image, before)["id"])
    if row is None:
        return failed(item, NOT_DONE.format("sample"))
    if row["failure"] is not None:
        return failed(item, row["failure"])
    original_hw = row["height"], row["width"]
    records = dict(zip(row["label_ids"], map(json.loads, row["records"]), strict=True))
    if item.stored in [former_merge(row["id"], row["records"], options) for options in called]:
        bad = [item.failure(record["failure"], name) for name, record in records.items() if record["failure"]]
        return Outcome(item.key, records, failures=bad, unchanged=True)

    def answers(prompts: Sequence[LabelPrompt], asked: Sequence[Answer]) -> Iterator[Answer]:
        for prompt, answer in zip(prompts, asked, strict=True):
            if answer.failure is None:  # what is wrong with a prompt is said as it would be here
                record = records[prompt.label.id]
                answer = replace(answer, crop=crop_of(record), failure=record["failure"])
            yield answer

    return form.answered(item, original_hw, answers)
