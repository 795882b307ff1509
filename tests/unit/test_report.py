"""The books say how a run stands while it goes on, and how it ended."""

import pytest

from fiftyone_mobilesam.engine.report import Report, keeping_books
from mobilesam.errors import JobError


def states(error=None):
    """Return the states that are saved at the beginning, in the middle and at the end of a run."""
    report, saved = Report("nightly"), []

    def save():
        saved.append((report.state, report.reason))

    try:
        with keeping_books(report, save):
            save()
            if error is not None:
                raise error
    except type(error or JobError()):
        pass
    return saved


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (None, ("finished", None)),
        (KeyboardInterrupt(), ("interrupted", None)),
        (SystemExit(1), ("interrupted", None)),
        (JobError("The disk is full."), ("stopped", "The disk is full.")),
    ],
)
def test_a_run_is_running_until_it_ends(error, end):
    assert states(error) == [("running", None), ("running", None), end]


def test_books_that_cannot_be_written_do_not_hide_why_a_run_ended(caplog):
    def save():
        if report.state != "running":
            raise OSError("full")

    report = Report("nightly")
    with pytest.raises(JobError, match="away"), keeping_books(report, save):
        raise JobError("The database is away.")
    assert "could not be written down: full" in caplog.text
