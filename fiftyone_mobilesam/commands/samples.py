"""What commands on a dataset share: exit codes, FiftyOne with its talk on stderr, the samples that are named."""

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

OK, SOME_FAILED, USAGE = 0, 1, 2
# Takes the function of a command and returns its parser.
Command = Callable[[Callable[[argparse.Namespace], int]], argparse.ArgumentParser]


def add_samples_arguments(parser: argparse.ArgumentParser) -> Callable[..., argparse.Action]:
    """Add the options by which `samples_of` finds samples and their masks; return what adds others."""
    add = parser.add_argument
    add("--dataset", metavar="NAME", required=True)
    add("--label-field", metavar="FIELD", default="masks", help="where the masks are; default: masks")
    add("--view", metavar="NAME", help="a saved view of the dataset")
    add("--group-slice", metavar="NAME", action="append", help="of a dataset of groups")
    return add


def check_folder(option: str, path: str | None) -> None:
    """Check before anything else that a file can be written where it is asked for."""
    if path and not Path(path).absolute().parent.is_dir():
        raise ValueError(f"{option} must be in a folder that is there, got {path!r}. Make the folder.")


class _Stderr(io.TextIOBase):
    """Writes to stderr without being it: FiftyOne's progress bars fail where stdout is stderr."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def fiftyone() -> Iterator[Any]:
    """Import FiftyOne, whose log lines go to stdout where it is imported, with stdout turned to stderr."""
    from mobilesam.packages import require

    with redirect_stdout(_Stderr()):
        yield require("fiftyone", extra="fiftyone")


def samples_of(fo: Any, args: argparse.Namespace) -> "SampleCollection":
    """Return the dataset that is named, or its saved view, or its slices."""
    if not fo.dataset_exists(args.dataset):
        raise ValueError(f"--dataset must be one of {', '.join(fo.list_datasets()) or 'none'}, got {args.dataset!r}.")
    samples = fo.load_dataset(args.dataset)
    if args.view:
        if not samples.has_saved_view(args.view):
            views = ", ".join(samples.list_saved_views()) or "none"
            raise ValueError(f"--view must be a saved view of the dataset, which has {views}, got {args.view!r}.")
        samples = samples.load_saved_view(args.view)
    if not args.group_slice:
        return samples
    if samples.media_type != fo.core.media.GROUP:
        raise ValueError(f"--group-slice must be left out, got it with {args.dataset!r}, which has no groups.")
    return samples.select_group_slices(args.group_slice)
