"""`export`, `report` and `evaluate`: what is done with the masks of a field once they are there."""

import argparse
import json
from pathlib import Path

from fiftyone_mobilesam.commands.samples import (
    OK,
    SOME_FAILED,
    Command,
    add_samples_arguments,
    check_folder,
    fiftyone,
    samples_of,
)


def export(args: argparse.Namespace) -> int:
    """Write the masks of a field as COCO or YOLO."""
    with fiftyone() as fo:
        from fiftyone_mobilesam import export_masks

        report = export_masks(samples_of(fo, args), args.label_field, args.out, format=args.format)
    print(report)
    return OK if report.ok else SOME_FAILED


def report(args: argparse.Namespace) -> int:
    """Write a page about the masks of a field: HTML with all pictures in it."""
    with fiftyone() as fo:
        from fiftyone_mobilesam import write_report

        path = write_report(samples_of(fo, args), args.label_field, args.out)
    print(path)
    return OK


def evaluate(args: argparse.Namespace) -> int:
    """Compare the masks of a field with true ones, and write on each how good it is."""
    check_folder("--json", args.json)
    with fiftyone() as fo:
        from fiftyone_mobilesam import evaluate

        found = evaluate(samples_of(fo, args), args.label_field, args.ground_truth_field)
    if args.json:
        Path(args.json).write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
    print(found.table())
    return SOME_FAILED if found.failed else OK


def add_to(command: Command) -> None:
    """Add the parsers of these commands."""
    add = add_samples_arguments(command(export))
    add("--format", choices=("coco", "coco-polygons", "yolo"), default="coco")
    add("--out", metavar="PATH", required=True, help="file for COCO, folder for YOLO")

    add = add_samples_arguments(command(report))
    add("--out", metavar="FILE", required=True, help="the HTML file to write")

    add = add_samples_arguments(command(evaluate))
    add("--ground-truth-field", metavar="FIELD", required=True, help="where the true masks are")
    add("--json", metavar="FILE", help="write the figures of each mask, and all others")
