"""The command `fiftyone-mobilesam`. Results go to stdout or to files, everything else to stderr."""

import argparse
import ast
import csv
import inspect
import io
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

OK, SOME_FAILED, USAGE = 0, 1, 2
EPILOG = """examples:
  fiftyone-mobilesam label --dataset NAME --prompt-field detections --label-field masks --job nightly
  fiftyone-mobilesam label --dataset NAME --prompt-field detections --device cuda:0 --device cuda:1
  fiftyone-mobilesam label --coco boxes.json --images photos/ --out masks.json      (without a database)
  fiftyone-mobilesam status nightly
  fiftyone-mobilesam resume nightly
  fiftyone-mobilesam failures nightly --export failures.csv
  fiftyone-mobilesam resume masks.json              (a job without a database goes by its output)
  fiftyone-mobilesam export --dataset NAME --label-field masks --format yolo --out training/
The same `label` command again does only what is missing.
"""
OF_DATASETS = ("prompt_field", "label_field", "view", "group_slice", "output_dir", "overwrite", "propagate")
KEYWORDS = ("job", "workers", "device", "weights", "precision", "cache_dir", "max_pixels")
KEYWORDS += ("prompt_field", "label_field", "output_dir", "overwrite", "propagate")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 for success, 1 if something failed, 2 for wrong usage."""
    args = _parser().parse_args(argv)
    from mobilesam.errors import MobileSamError

    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return SOME_FAILED
    except (MobileSamError, OSError, RuntimeError, TypeError, ValueError) as error:  # no such device, option
        print(f"error: {error}", file=sys.stderr)
        return USAGE


def label(args: argparse.Namespace) -> int:
    """Make masks for a dataset, or for a COCO file; again to do what is missing."""
    _refuse(args, ("images", "out") if args.dataset else OF_DATASETS, "dataset" if args.dataset else "coco")
    given = {name: getattr(args, name) for name in KEYWORDS}
    keywords = {name: value for name, value in given.items() if value is not None} | dict(args.option)
    if args.coco:
        if not (args.images and args.out):
            raise ValueError("--coco must go with --images and --out.")
        from fiftyone_mobilesam import label_coco

        accepted = inspect.signature(label_coco).parameters
        if others := sorted(keywords.keys() - accepted.keys()):
            raise ValueError(f"--option must be one of {', '.join(accepted)}, got {', '.join(others)}.")
        return _report(args, lambda: label_coco(args.coco, args.images, args.out, **keywords))

    def run() -> Any:
        with _fiftyone() as fo:
            import fiftyone_mobilesam as fom

            return fom.label(_samples(fo, args), **keywords)

    return _report(args, run)


def resume(args: argparse.Namespace) -> int:
    """Go on with a job, with the settings it was started with."""
    if _is_output(args.job):
        from fiftyone_mobilesam import label_coco
        from fiftyone_mobilesam.sinks.coco_books import find_coco_job

        call = find_coco_job(args.job)["call"]
        if not call:
            raise ValueError(f"job must be one of `label`, got {args.job!r}, which was merged. Merge the shards again.")
        return _report(args, lambda: label_coco(**call | {"workers": max(1, call["workers"])}))

    def run() -> Any:
        with _fiftyone():
            import fiftyone_mobilesam as fom
            from fiftyone_mobilesam.runs import call_of, find_job, job_key

            dataset, record = find_job(args.job, args.dataset)
            return fom.label(dataset.load_run_view(job_key(args.job)), **call_of(record))

    return _report(args, run)


def status(args: argparse.Namespace) -> int:
    """Say how far a job is."""
    if _is_output(args.job):
        from fiftyone_mobilesam.sinks.coco_books import find_coco_job

        books = {name: value for name, value in find_coco_job(args.job).items() if name not in ("call", "failures")}
    else:
        with _fiftyone():
            from fiftyone_mobilesam.runs import find_job

            record = find_job(args.job, args.dataset)[1]
        books = {**record.counts, "updated": record.updated}
    if args.json:
        print(json.dumps(books, indent=1))
    else:
        for name, value in books.items():
            print(f"{name:<20}{'-' if value is None else value}")
    return OK


def failures(args: argparse.Namespace) -> int:
    """List the samples and prompts without masks, with reasons, as CSV."""
    _check_folder("--export", args.export)
    if _is_output(args.job):
        from fiftyone_mobilesam.sinks.coco_books import coco_failures

        columns = ("image_id", "annotation_id", "file_name", "reason")
        rows = list(coco_failures(args.job))
    else:
        columns = ("sample_id", "prompt_id", "filepath", "reason")
        with _fiftyone():
            from fiftyone_mobilesam.jobs.dataset import failures_of_job

            rows = list(failures_of_job(args.job, args.dataset))
    with open(args.export, "w", newline="", encoding="utf-8") if args.export else nullcontext(sys.stdout) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return OK


def export(args: argparse.Namespace) -> int:
    """Write the masks of a field as COCO or YOLO."""
    with _fiftyone() as fo:
        from fiftyone_mobilesam import export_masks

        report = export_masks(_samples(fo, args), args.label_field or "masks", args.out, format=args.format)
    print(report)
    return OK if report.ok else SOME_FAILED


def _report(args: argparse.Namespace, run: Callable[[], Any]) -> int:
    """Run a job and write its report."""
    from mobilesam.errors import JobError

    _check_folder("--json", args.json)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as at Ctrl-C, with the books in order
    try:
        report = run()
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return SOME_FAILED
    if args.json:
        Path(args.json).write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
    print(report)
    return OK if report.ok else SOME_FAILED


def _is_output(job: str) -> bool:
    """Return whether a job is named by the output of `label --coco`: names of others are letters and digits."""
    return not f"_{job}".isidentifier()


def _check_folder(option: str, path: str | None) -> None:
    if path and not Path(path).absolute().parent.is_dir():
        raise ValueError(f"{option} must be in a folder that is there, got {path!r}. Make the folder.")


class _Stderr(io.TextIOBase):
    """Writes to stderr without being it: FiftyOne's progress bars fail where stdout is stderr."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def _fiftyone() -> Iterator[Any]:
    """Import FiftyOne, whose log lines go to stdout where it is imported, with stdout turned to stderr."""
    from mobilesam.packages import require

    with redirect_stdout(_Stderr()):
        yield require("fiftyone", extra="fiftyone")


def _samples(fo: Any, args: argparse.Namespace) -> "SampleCollection":
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


def _refuse(args: argparse.Namespace, names: Sequence[str], source: str) -> None:
    """Check that options that mean nothing here are not given."""
    if given := [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None]:
        raise ValueError(f"{', '.join(given)} must be left out with --{source}: it means nothing there.")


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"NAME=VALUE is wanted, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "fiftyone-mobilesam", description=__doc__, epilog=EPILOG, formatter_class=formatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Any) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=run.__doc__, epilog=EPILOG, formatter_class=formatter)
        command.set_defaults(run=run)
        return command

    command = add("label", label)
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="NAME", help="a dataset of FiftyOne")
    source.add_argument("--coco", metavar="FILE", help="a COCO file with boxes; no database is needed")
    command.add_argument("--images", metavar="DIR", help="the images of --coco")
    command.add_argument("--out", metavar="FILE", help="the COCO file to write")
    command.add_argument("--prompt-field", metavar="FIELD", help="labels to prompt with; default: segment everything")
    command.add_argument("--label-field", metavar="FIELD", help="where masks go; default: masks")
    command.add_argument("--job", metavar="NAME", help="name of the job; default: label")
    command.add_argument("--view", metavar="NAME", help="a saved view of the dataset")
    command.add_argument("--group-slice", metavar="NAME", action="append", help="default: all slices of images")
    command.add_argument("--output-dir", metavar="DIR", help="masks as PNG files, not in the database")
    command.add_argument(
        "--overwrite", action="store_true", default=None, help="also replace labels that no job wrote; default: refuse"
    )
    command.add_argument(
        "--propagate", action="store_true", default=None, help="carry objects on through videos and ordered images"
    )
    command.add_argument("--workers", type=int, metavar="N", help="processes on each device; default: 1")
    command.add_argument("--device", action="append", help="cpu, cuda:0, ...; more than once for several")
    command.add_argument("--weights", metavar="FILE", help="default: those in the package")
    command.add_argument("--precision", choices=("fp32", "bf16", "auto"))
    command.add_argument("--cache-dir", metavar="DIR", help="image embeddings, for a second run with other boxes")
    command.add_argument("--max-pixels", type=int, metavar="N", help="larger images are failures")
    command.add_argument(
        "--option", action="append", default=[], type=_option, metavar="NAME=VALUE", help="such as clip=False"
    )
    command.add_argument("--json", metavar="FILE", help="write the report")
    command = add("export", export)
    command.add_argument("--dataset", metavar="NAME", required=True)
    command.add_argument("--label-field", metavar="FIELD", help="where the masks are; default: masks")
    command.add_argument("--format", choices=("coco", "coco-polygons", "yolo"), default="coco")
    command.add_argument("--out", metavar="PATH", required=True, help="file for COCO, folder for YOLO")
    command.add_argument("--view", metavar="NAME", help="a saved view of the dataset")
    command.add_argument("--group-slice", metavar="NAME", action="append", help="of a dataset of groups")
    for name, run in (("resume", resume), ("status", status), ("failures", failures)):
        command = add(name, run)
        command.add_argument("job", metavar="JOB", help="its name, or the output of `label --coco`")
        command.add_argument("--dataset", metavar="NAME", help="where several datasets have such a job")
        if name == "resume":
            command.add_argument("--json", metavar="FILE", help="write the report")
        elif name == "status":
            command.add_argument("--json", action="store_true", help="as JSON")
        else:
            command.add_argument("--export", metavar="FILE", help="default: stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
