"""Masks from boxes and from keypoints with MobileSAM in FiftyOne; offline, on photographs that come along.

With --images and --boxes the same on your own images. Makes a persistent FiftyOne dataset and one picture an image.
"""

import argparse
import re
import shlex
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHOWN = 60  # lines of the table; the dataset and the pictures have everything
RUNS = {"box": ("detections", "masks"), "points": ("keypoints", "keypoint_masks")}
TITLES = {"box": "boxes", "points": "keypoints"}
EXAMPLES = """examples:
  scripts/demo
  scripts/demo --images photos/ --boxes coco.json --limit 20
  scripts/demo --images photos/ --boxes coco.json --name my-masks --output pictures/
"""


def parse_arguments() -> argparse.Namespace:
    """Read the command line; --images and --boxes come together or not at all."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of your images")
    parser.add_argument("--boxes", type=Path, metavar="JSON", help="COCO file with their boxes, and keypoints if any")
    parser.add_argument("--name", default="mobilesam-demo", help="FiftyOne dataset to make (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="DIR", default=ROOT / "demo_output",
                        help="folder for the pictures (default: demo_output in the repository)")  # fmt: skip
    parser.add_argument("--limit", type=int, metavar="N", help="use N images at most, those with prompts first")
    args = parser.parse_args()
    if (args.images is None) != (args.boxes is None):
        parser.error("--images and --boxes must be given together: a folder, and the COCO file with its boxes")
    if args.limit is not None and args.limit < 1:
        parser.error(f"--limit must be 1 or more, got {args.limit}")
    return args


def segment(dataset) -> tuple[dict, list]:
    """Run the model once by boxes and once by keypoints, as far as the dataset has them.

    Returns:
        Per run that took place its report, by kind of prompt; and the failures.
    """
    import fiftyone_mobilesam as fom

    model = fom.load_model()
    reports = {}
    for kind, (prompt_field, label_field) in RUNS.items():
        if not dataset.has_field(prompt_field) or dataset.count(f"{prompt_field}.{prompt_field}") == 0:
            continue
        print(f"\nMasks from {TITLES[kind]}:", flush=True)
        dataset.apply_model(
            model, label_field=label_field, prompt_field=prompt_field, batch_size=4, num_workers=2, progress=True
        )
        reports[kind] = model.last_run
    return reports, [failure for report in reports.values() for failure in report.failures]


def print_table(dataset, kinds: list[str]) -> int:
    """Print one line a prompt and return the number of masks."""
    rows = []
    for sample in dataset:
        for kind in kinds:
            for detection in getattr(sample[RUNS[kind][1]], "detections", []):
                name = Path(sample.filepath).name
                if detection.mask is None:
                    rows.append((name, detection.label or "", kind, "-", "-", "no mask"))
                    continue
                scores = (f"{detection[key]:.3f}" for key in ("predicted_iou", "stability_score"))
                rows.append((name, detection.label or "", kind, *scores, f"{int(detection.mask.sum()):,}"))
    header = ("image", "object", "prompt", "pred. IoU", "stability", "area px")
    widths = [max(len(row[i]) for row in [header, *rows[:SHOWN]]) for i in range(len(header))]
    print()
    for row in [header, tuple("-" * width for width in widths), *rows[:SHOWN]]:
        cells = [cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells))
    if len(rows) > SHOWN:
        print(f"... and {len(rows) - SHOWN} more")
    return sum(row[5] != "no mask" for row in rows)


def draw_all(dataset, kinds: list[str], folder: Path) -> int:
    """Write one picture an image and return their number."""
    from demo_pictures import draw

    panels = {f"MobileSAM from {TITLES[kind]}": RUNS[kind] for kind in kinds}
    seen: dict[str, int] = {}
    count = 0
    for sample in dataset:
        if all(sample[field] is None for _, field in panels.values()):  # failed: the report has it
            continue
        stem = re.sub(r"[^\w.-]", "_", Path(sample.filepath).stem)
        seen[stem] = seen.get(stem, 0) + 1
        draw(sample, panels, folder / (f"{stem}.png" if seen[stem] == 1 else f"{stem}-{seen[stem]}.png"))
        count += 1
    return count


def make_folder(folder: Path) -> None:
    """Make the folder for the pictures, before any work is done.

    Raises:
        DemoError: it cannot be made.
    """
    from demo_data import DemoError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"--output must be a folder that can be made, got {folder}: {error.strerror}.") from error


def app_command(name: str) -> str:
    """Return the command for a fresh shell. It names the database's folder unless that is FiftyOne's usual one.

    FiftyOne joins any database service of its own that is running already, whatever its folder, so the folder that is
    configured is not always the one that is in use.
    """
    import fiftyone as fo
    from fiftyone.constants import DEFAULT_DB_DIR
    from fiftyone.core.odm import get_db_conn

    command = shlex.join([str(Path(sys.executable).parent / "fiftyone"), "app", "launch", name])
    if fo.config.database_uri:
        return command
    options = get_db_conn().client.admin.command("getCmdLineOpts")["parsed"]
    folder = options.get("storage", {}).get("dbPath", DEFAULT_DB_DIR)
    return command if folder == DEFAULT_DB_DIR else f"FIFTYONE_DATABASE_DIR={shlex.quote(folder)} {command}"


def run(args: argparse.Namespace) -> int:
    """Make the dataset, segment, show. Returns the number of failures."""
    import demo_data

    started = time.perf_counter()
    make_folder(args.output)
    coco = demo_data.load_coco(args.boxes or demo_data.PROMPTS)
    files = demo_data.find_files(coco, args.images or demo_data.photographs())
    if missing := len(coco["images"]) - len(files):
        print(f"{missing} of {len(coco['images'])} images of the COCO file are not in the folder and are left out.")
    dataset = demo_data.make_dataset(args.name, demo_data.select(coco, set(files), args.limit), files)
    reports, failures = segment(dataset)
    masks = print_table(dataset, list(reports))
    pictures = draw_all(dataset, list(reports), args.output)
    seconds = time.perf_counter() - started
    print(f"\n{masks} masks on {len(dataset)} images in {seconds:.0f} s, {len(failures)} failed.")
    for failure in failures[:5]:
        print(f"  {failure}")
    print(f"Pictures: {args.output.resolve()} ({pictures} files)")
    print(f"In the App: {app_command(args.name)}")
    return len(failures)


def main() -> int:
    """Return 0, 1 if a prompt or an image failed, 2 for wrong arguments."""
    args = parse_arguments()
    from demo_data import DemoError

    try:
        return 1 if run(args) else 0
    except DemoError as error:
        print(f"scripts/demo: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
