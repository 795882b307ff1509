"""The command `fiftyone-mobilesam`. Results go to stdout or to files, everything else to stderr."""

import argparse
import ast
import csv
import inspect
import json
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fiftyone_mobilesam.commands import masks
from fiftyone_mobilesam.commands.samples import OK, SOME_FAILED, USAGE, check_folder, fiftyone, samples_of

EPILOG = """examples:
  fiftyone-mobilesam label --dataset NAME --prompt-field detections --label-field masks --job nightly
  fiftyone-mobilesam label --dataset NAME --prompt-field detections --device cuda:0 --device cuda:1
  fiftyone-mobilesam label --coco boxes.json --images photos/ --out masks.json      (without a database)
  fiftyone-mobilesam status nightly
  fiftyone-mobilesam resume nightly
  fiftyone-mobilesam failures nightly --export failures.csv
  fiftyone-mobilesam resume masks.json              (a job without a database goes by its output)
  fiftyone-mobilesam export --dataset NAME --label-field masks --format yolo --out training/
  fiftyone-mobilesam evaluate --dataset NAME --label-field masks --ground-truth-field ground_truth
The same `label` command again does only what is missing.
"""
OF_DATASETS = ("prompt_field", "label_field", "view", "group_slice", "output_dir", "overwrite", "propagate")
KEYWORDS = ("job", "workers", "device", "weights", "precision", "cache_dir", "max_pixels")
KEYWORDS += ("quality", "overlap", "refine", "prompt_field", "label_field", "output_dir", "overwrite", "propagate")


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
        with fiftyone() as fo:
            import fiftyone_mobilesam as fom

            return fom.label(samples_of(fo, args), **keywords)

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
        with fiftyone():
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
        with fiftyone():
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
    check_folder("--export", args.export)
    if _is_output(args.job):
        from fiftyone_mobilesam.sinks.coco_books import coco_failures

        columns = ("image_id", "annotation_id", "file_name", "reason")
        rows = list(coco_failures(args.job))
    else:
        columns = ("sample_id", "prompt_id", "filepath", "reason")
        with fiftyone():
            from fiftyone_mobilesam.jobs.dataset import failures_of_job

            rows = list(failures_of_job(args.job, args.dataset))
    with open(args.export, "w", newline="", encoding="utf-8") if args.export else nullcontext(sys.stdout) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return OK


def _report(args: argparse.Namespace, run: Callable[[], Any]) -> int:
    """Run a job and write its report."""
    from mobilesam.errors import JobError

    check_folder("--json", args.json)
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
    texts = {"epilog": EPILOG, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser("fiftyone-mobilesam", description=__doc__, **texts)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        parser = commands.add_parser(run.__name__, help=run.__doc__.splitlines()[0], **texts)
        parser.set_defaults(run=run)
        return parser

    label_parser = command(label)
    source = label_parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="NAME", help="a dataset of FiftyOne")
    source.add_argument("--coco", metavar="FILE", help="a COCO file with boxes; no database is needed")
    add = label_parser.add_argument
    add("--images", metavar="DIR", help="the images of --coco")
    add("--out", metavar="FILE", help="the COCO file to write")
    add("--prompt-field", metavar="FIELD", help="labels to prompt with; default: segment everything")
    add("--label-field", metavar="FIELD", help="where masks go; default: masks")
    add("--job", metavar="NAME", help="name of the job; default: label")
    add("--view", metavar="NAME", help="a saved view of the dataset")
    add("--group-slice", metavar="NAME", action="append", help="default: all slices of images")
    add("--output-dir", metavar="DIR", help="masks as PNG files, not in the database")
    flag = {"action": "store_true", "default": None}  # None where it is not given, as of other options
    add("--overwrite", **flag, help="also replace labels that no job wrote; default: refuse")
    add("--propagate", **flag, help="carry objects on through videos and ordered images")
    add("--workers", type=int, metavar="N", help="processes on each device; default: 1")
    add("--device", action="append", help="cpu, cuda:0, ...; more than once for several")
    add("--weights", metavar="FILE", help="default: those in the package")
    add("--precision", choices=("fp32", "bf16", "auto"))
    add("--quality", choices=("fast", "best"), help="best: better masks at about 1 to 3 times the time")
    add("--overlap", choices=("keep", "exclusive"), help="exclusive: no pixel is in two masks of an image")
    add("--refine", **flag, help="the masks and polygons that prompts have are made again, from their own pixels too")
    add("--cache-dir", metavar="DIR", help="image embeddings, for a second run with other boxes")
    add("--max-pixels", type=int, metavar="N", help="larger images are failures")
    add("--option", action="append", default=[], type=_option, metavar="NAME=VALUE", help="such as clip=False")
    add("--json", metavar="FILE", help="write the report")

    for run, option, keywords in (
        (resume, "--json", {"metavar": "FILE", "help": "write the report"}),
        (status, "--json", {"action": "store_true", "help": "as JSON"}),
        (failures, "--export", {"metavar": "FILE", "help": "default: stdout"}),
    ):
        add = command(run).add_argument
        add("job", metavar="JOB", help="its name, or the output of `label --coco`")
        add("--dataset", metavar="NAME", help="where several datasets have such a job")
        add(option, **keywords)
    masks.add_to(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
