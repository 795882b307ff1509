"""What each step bought: the same images and boxes through this project as it was at some commits, in turns.

    python benchmarks/leaderboard.py --limit 4 --rounds 3

Each commit is checked out in a temporary folder and runs in a process of its own, on the bundled weights of today.
Writes `docs/leaderboard.md`, a row a commit. Upstream is the first row.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np
from data import ROOT, Case, default_cases
from environment import environment
from parts import floors
from report import table

from mobilesam import load_model
from mobilesam.weights import save_checkpoint

PAGE = ROOT / "docs" / "leaderboard.md"
STEPS = {  # commit -> what it did
    "084fd4f": "upstream's arithmetic in our modules",
    "4bb57c2": "a decoder that folds the projections of image tokens into the prompt's few",
    "86f34d9": "an encoder in oneDNN, channels last",
    "25f12bd": "window attention in torch's fused kernel",
    "9c4e280": "the decoder's large products in oneDNN",
    "6763cea": "pieces that stay in the cache, and a heap that is kept",
    "ba220f7": "strips written in place, folded weights kept",
    "32bbfd4": "less memory, cleaner code",
    "4185fee": "a prompt's image tokens are never written out",
    "HEAD": "today: nothing is computed for padding, 1 x 1 convolutions as products",
}
ALONE = {"MOBILESAM_OPENVINO": "0"}  # for a while the encoder ran in OpenVINO where that was installed


class Served:
    """A process that runs one state of the project, or upstream's code.

    Args:
        folder: what it imports `mobilesam` from; None for upstream's.
        checkpoint: the weights.
        environment: more of it.
    """

    def __init__(self, folder: Path | None, checkpoint: Path, environment: dict[str, str]):
        served = Path(__file__).with_name("served.py")
        command = [sys.executable, "-W", "ignore", served, "ours" if folder else "upstream", checkpoint]
        variables = {**os.environ, **environment, "PYTHONPATH": str(folder or ROOT)}
        self._process = subprocess.Popen(
            command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, path: Path, boxes: np.ndarray) -> tuple[float, float]:
        """Return the milliseconds of the image, and of all its boxes."""
        self._process.stdin.write(json.dumps([str(path), boxes.tolist()]) + "\n")
        self._process.stdin.flush()
        return tuple(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def measure(cases: list[Case], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return milliseconds an image, and a box, of each state, image by image and round by round."""
    rows: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        save_checkpoint(load_model(device="cpu").state_dict(), folder / "mobile_sam.pt")
        served = {"upstream": Served(None, folder / "mobile_sam.pt", {})}
        for commit in STEPS:
            subprocess.run(["git", "worktree", "add", "-q", "--detach", folder / commit, commit], cwd=ROOT, check=True)
            stack.callback(subprocess.run, ["git", "worktree", "remove", "--force", folder / commit], cwd=ROOT)
            served[commit] = Served(folder / commit, folder / "mobile_sam.pt", ALONE)
        for one in served.values():  # load and warm up
            one.run(*cases[0][:2])
        for number in range(rounds * len(cases)):
            path, boxes, _ = cases[number % len(cases)]
            for name, one in served.items():
                image, all_boxes = one.run(path, boxes)
                rows.setdefault(name, []).append((image, all_boxes / len(boxes)))
            print(f"{number + 1} of {rounds * len(cases)}", end="\r", flush=True)
        for one in served.values():
            one.close()
    return rows


def page(rows: dict[str, list[tuple[float, float]]], floor: dict[str, float], about: dict[str, str]) -> str:
    """Return the page."""
    least, lines, images = (floor["least ms an image, fp32"], floor["least ms a box, fp32"]), [], about["images"]
    for name, spent in rows.items():
        image, box = (median(min(column[i::images]) for i in range(images)) for column in zip(*spent, strict=True))
        what = {"upstream": "upstream's code, boxes batched"}
        what |= {commit: text if commit == "HEAD" else f"`{commit}` {text}" for commit, text in STEPS.items()}
        cells = [f"{image:.0f}", f"{image / least[0]:.1f}", f"{box:.1f}", f"{box / least[1]:.1f}"]
        lines.append([what[name], *cells])
    head = ["", "ms an image", "times the floor", "ms a box", "times the floor"]
    counts = f"{about.pop('images')} images, {about.pop('boxes')} boxes, {about.pop('rounds')} rounds"
    return (
        "# What each step bought\n\nMilliseconds to encode an image and for a box in it, fp32: the least of the rounds,"
        " then the median of the\nimages. All took turns in one run of `python benchmarks/leaderboard.py`, "
        f"{counts}.\nThe floor is the arithmetic left today, at the rate of oneDNN's largest product: {least[0]:.0f} ms"
        f" an image and\n{least[1]:.1f} ms a box. On a shared machine rows that differ by less than a"
        " third may\ndiffer by chance.\n\n"
        + table(head, lines)
        + "\n\n"
        + ", ".join(f"{key} {value}" for key, value in about.items())
        + "\n"
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=4, help="images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=PAGE)
    args = parser.parse_args()
    _, cases = default_cases(args.limit)
    about = {"images": len(cases), "boxes": sum(len(boxes) for _, boxes, _ in cases), "rounds": args.rounds}
    rows, floor = measure(cases, args.rounds), floors(load_model(device="cpu"), ["fp32"])
    text = page(rows, floor, about | environment())
    args.output.write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
