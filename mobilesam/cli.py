"""The command `mobilesam`. Results go to stdout or to files, everything else to stderr."""

import argparse
import ast
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from mobilesam import __version__, weights
from mobilesam.errors import MobileSamError
from mobilesam.images import find_files

if TYPE_CHECKING:  # torch, which takes seconds to load, is not needed for --help
    from mobilesam.front.model import MobileSAM
    from mobilesam.front.results import Results

OK, SOME_FAILED, USAGE = 0, 1, 2
FORMATS = ("json", "coco", "png", "yolo")
EPILOG = """examples:
  mobilesam predict zidane.jpg --box 439,437,524,709 --save out.png
  mobilesam predict zidane.jpg --point 900,370 --point 480,500 --format coco > masks.json
  mobilesam everything photos/ --format yolo --out labels/
  mobilesam validate --coco instances.json --images photos/
  mobilesam train --coco corrected.json --images photos/ --out ours.safetensors
  mobilesam predict source=zidane.jpg bboxes=[439,437,524,709]     (as Ultralytics writes it)
"""
# Ultralytics' `key=value` -> what it is called here.
KEYS = {
    "bboxes": "--box",
    "points": "--point",
    "labels": "--label",
    "data": "--coco",
    **{name: f"--{name}" for name in ("model", "device", "format", "precision", "images", "prompts", "limit")},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 for success, 1 if some images failed, 2 for wrong usage."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    try:
        args = parser.parse_args(_as_options(argv))
    except ValueError as error:
        parser.error(str(error))
    try:
        return args.run(args)
    except (MobileSamError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE


def predict(args: argparse.Namespace) -> int:
    """Masks from boxes and points, or of everything."""
    model = _model(args)
    if args.command == "everything":
        options = {"points_per_side": args.points_per_side}
    elif args.box or args.point:
        points, labels = args.point or None, args.label or None
        if args.one_object and points:
            points, labels = [points], labels and [labels]
        options = {"bboxes": args.box, "points": points, "labels": labels, "multimask_output": args.multimask}
        options["quality"] = args.quality
    else:
        print("error: predict wants --box or --point; `mobilesam everything` goes without.", file=sys.stderr)
        return USAGE
    if args.out and args.format not in ("png", "yolo"):
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)  # now: a failure at the end would cost all results
    results, failed, written = [], 0, set()
    files = list(find_files(args.source))
    for path in tqdm(files, unit="image", file=sys.stderr, disable=len(files) < 2):
        try:
            for result in model.predict(path, stream=True, **options):
                if args.save:
                    result.save(_target(args.save, f"results_{result.stem}.png", written))
                results.append(_write_each(result, args, written))
                print(f"{result.path}: {result.verbose()}", file=sys.stderr)
        except (MobileSamError, OSError) as error:
            failed += 1
            print(f"{path}: {error}", file=sys.stderr)
    _write_all(results, args)
    return SOME_FAILED if failed else OK


def export(args: argparse.Namespace) -> int:
    """Write an encoder and a decoder for other programs."""
    options = {"folder": args.out} if args.out else {}
    for path in _model(args).export(format=args.format, **options):
        print(path)
    return OK


def validate(args: argparse.Namespace) -> int:
    """Compare masks with COCO ground truth."""
    report = _model(args).val(args.coco, args.images, prompts=args.prompts, quality=args.quality, limit=args.limit)
    print(report.table())
    if args.json:
        Path(args.json).write_text(json.dumps(report.as_dict(), indent=1))
    if args.plot:
        report.plot(args.plot)
    return SOME_FAILED if report.failed else OK


def train(args: argparse.Namespace) -> int:
    """Learn from COCO masks: a new checkpoint, if it is better on images left out."""
    names = ("out", "overwrite", "prompts", "passes", "may_forget", "seed", "limit")
    options = {name: getattr(args, name) for name in names}
    training = _model(args).train(args.coco, args.images, **options)
    print(training.text)
    for name, reason in training.failed:
        print(f"{name}: {reason}", file=sys.stderr)
    return OK if training.path else SOME_FAILED


def info(args: argparse.Namespace) -> int:
    """Versions, device, weights, self-test."""
    import torch

    from mobilesam import load_model
    from mobilesam.fast.backend import multiplies_bfloat16

    sam = load_model(args.model, device=args.device)  # raises if the self-test fails
    lines = {
        "mobilesam": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{sam.device}, {torch.get_num_threads()} threads, bf16 {multiplies_bfloat16(sam.device)}",
        "weights": str(weights.resolve(args.model)),
        "sha256": weights.sha256_of(weights.resolve(args.model)),
        "self-test": "passed",
    }
    print("\n".join(f"{name:<10}{value}" for name, value in lines.items()))
    return OK


def download(args: argparse.Namespace) -> int:
    """Fetch the official weights and check them."""
    print(weights.download(args.out))
    return OK


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("mobilesam", description=__doc__, epilog=EPILOG, formatter_class=formatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", default="mobile_sam.pt", help="weights; default: those in the package")
    model.add_argument("--device", help="cpu, cuda:0, ...; default: a GPU if there is one")
    model.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "auto"))
    images = argparse.ArgumentParser(add_help=False)
    images.add_argument("source", help="an image, a folder, or a glob pattern in quotes")
    images.add_argument("--save", metavar="FILE", help="write a picture, or results_<name>.png into a folder")
    images.add_argument("--format", choices=FORMATS, help="what to write; json and coco to stdout without --out")
    images.add_argument("--out", metavar="PATH", help="file for json and coco, folder for png and yolo")

    def add(name: str, run: Any, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=run.__doc__, parents=parents, epilog=EPILOG, formatter_class=formatter)
        command.set_defaults(run=run)
        return command

    command = add("predict", predict, images, model)
    command.add_argument("--box", action="append", type=_numbers(4), metavar="X0,Y0,X1,Y1", help="one object a box")
    command.add_argument("--point", action="append", type=_numbers(2), metavar="X,Y", help="one object a point")
    command.add_argument("--label", action="append", type=int, metavar="1", help="1 foreground, 0 background, a point")
    command.add_argument("--one-object", action="store_true", help="all points are on one object")
    command.add_argument("--multimask", action="store_true", help="three candidates a prompt")
    command.add_argument(
        "--quality", default="fast", choices=("fast", "best"), help="best takes about 1 to 3 times as long"
    )
    command = add("everything", predict, images, model)
    command.add_argument("--points-per-side", type=int, default=32, metavar="N", help="a grid of N x N points")
    command = add("export", export, model)
    command.add_argument("--format", default="onnx", help="onnx, torchscript or openvino")
    command.add_argument("--out", metavar="FOLDER")
    command = add("validate", validate, model)
    command.add_argument("--coco", required=True, help="COCO instances")
    command.add_argument("--images", required=True, help="their folder")
    command.add_argument("--prompts", default="box", choices=("box", "point", "jitter"))
    command.add_argument("--quality", default="fast", choices=("fast", "best"))
    command.add_argument("--limit", type=_positive, metavar="N", help="use N images at most")
    command.add_argument("--json", metavar="FILE", help="write all figures")
    command.add_argument("--plot", metavar="FILE", help="draw predicted against true IoU")
    command = add("train", train, model)
    command.add_argument("--coco", required=True, help="COCO instances with true masks")
    command.add_argument("--images", required=True, help="their folder")
    command.add_argument("--out", default="mobile_sam_trained.safetensors", metavar="FILE", help="the new checkpoint")
    command.add_argument("--overwrite", action="store_true", help="replace --out if it is there")
    command.add_argument("--prompts", default="given", choices=("given", "point", "both"), help="boxes, clicks or both")
    command.add_argument("--passes", type=_positive, metavar="N", help="over all masks; default: by their number")
    command.add_argument(
        "--may-forget", type=float, default=0.004, metavar="X", help="mean IoU that photographs may lose; 1 for any"
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--limit", type=_positive, metavar="N", help="use N images at most")
    add("info", info, model)
    add("download", download).add_argument("--out", metavar="FILE", help="default: in the user's cache folder")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 is wanted, got {text!r}")
    return int(text)


def _numbers(count: int) -> Any:
    def numbers(text: str) -> list[float]:
        values = [float(part) for part in text.split(",")]
        if len(values) != count:
            raise argparse.ArgumentTypeError(f"{count} numbers with commas are wanted, got {text!r}")
        return values

    return numbers


def _as_options(argv: list[str]) -> list[str]:
    """Rewrite Ultralytics' `key=value` as options, or raise a ValueError that names what cannot be read."""
    result = []
    for word in argv:
        key, equals, value = word.partition("=")
        if result and result[-1] in ("--box", "--point") and word.startswith("-") and word[1:2].isdigit():
            result[-1] += f"={word}"  # argparse takes -3,10,50,60 for an option
        elif not equals or word.startswith("-") or not key.isidentifier() or Path(word).exists():
            result.append(word)
        elif key == "source":
            result.append(value)
        elif key == "save":
            result += ["--save", "." if value.lower() == "true" else value] if value.lower() != "false" else []
        elif key in ("bboxes", "points", "labels"):
            result += _prompt_options(key, value)
        elif key in KEYS:
            result += [KEYS[key], value]
        else:
            raise ValueError(f"{key}= is not known here. Known: source, save, {', '.join(KEYS)}. See --help.")
    return result


def _prompt_options(key: str, value: str) -> list[str]:
    try:
        values = ast.literal_eval(value)
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{key}= must be numbers in brackets, got {value!r}") from error
    values = values if isinstance(values, (list, tuple)) else [values]
    rows = values if key == "labels" or (values and isinstance(values[0], (list, tuple))) else [values]
    return [f"{KEYS[key]}={','.join(map(str, row)) if key != 'labels' else row}" for row in rows]


def _model(args: argparse.Namespace) -> "MobileSAM":
    from mobilesam.front.model import SAM

    return SAM(args.model, device=args.device, precision=args.precision)


def _target(out: str, name: str, written: set[Path]) -> Path:
    """Return the file for one image: `out` itself if it has a suffix, else `name` in that folder, which is made."""
    path = Path(out)
    if path.is_dir() or not path.suffix or out.endswith("/"):
        path.mkdir(parents=True, exist_ok=True)
        path = path / name
    if path in written:
        raise OSError(f"{path} is there from another image of this run; write to a folder, and give images own names.")
    written.add(path)
    return path


def _write_each(result: "Results", args: argparse.Namespace, written: set[Path]) -> Any:
    """Write what has a file an image; return what goes into one file for all."""
    folder = args.out or "."
    if args.format == "yolo":
        path = _target(f"{folder}/", f"{result.stem}.txt", written)
        path.unlink(missing_ok=True)
        result.save_txt(path)
    elif args.format == "png":
        result.save_masks(_target(f"{folder}/", f"{result.stem}_0.png", written).parent, result.stem)
    elif args.format == "coco":
        return result.path, result.orig_shape, result.coco()
    else:
        return {"path": result.path, "objects": result.summary()}
    return None


def _write_all(results: list[Any], args: argparse.Namespace) -> None:
    if args.format in ("png", "yolo") or (args.format is None and args.save):
        return
    if args.format == "coco":
        images, annotations = [], []
        for number, (path, (height, width), rows) in enumerate(results, 1):
            images.append({"id": number, "file_name": path, "height": height, "width": width})
            annotations += [{"id": len(annotations) + i, "image_id": number, **row} for i, row in enumerate(rows, 1)]
        results = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    text = json.dumps(results, indent=1)
    if args.out:
        Path(args.out).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
