"""Tables and a plot of a benchmark's result, written as it comes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pipelines import REFERENCE

NAME_OF = {"fp32": "ours", "bf16": "ours, bf16"}  # precision -> the row that is in it


class Written:
    """A result that is written again whenever something is added: Markdown, JSON and a plot.

    Args:
        stem: path of the files without their suffixes; the folder is made.
        about: what it was measured on.
    """

    def __init__(self, stem: Path, about: dict[str, Any]):
        self.stem, self.result = stem, {"about": about}
        stem.parent.mkdir(parents=True, exist_ok=True)

    def keep(self, **found: Any) -> None:
        """Add parts of the result."""
        self.result |= found
        Path(f"{self.stem}.md").write_text(markdown(self.result))
        Path(f"{self.stem}.json").write_text(json.dumps(self.result, indent=1))
        if self.result.keys() >= {"rows", "boxes"}:
            plot(self.result, Path(f"{self.stem}.png"))


def markdown(result: dict[str, Any]) -> str:
    """Return the report of what there is so far."""
    parts = {
        "rows": lambda: comparison(result["rows"], result["floors"], result["about"]["images"]),
        "floors": lambda: limits(result),
        "others": lambda: beside_fastsam(result["others"]),
        "steps": lambda: by_step(result["steps"]),
        "boxes": lambda: by_boxes(result["boxes"]),
        "dataset": lambda: in_fiftyone(result["dataset"]),
        "memory": lambda: memory(result["memory"]),
    }
    missing = [name for name in parts if name not in result]
    texts = [text() for name, text in parts.items() if name not in missing]
    texts += [f"Not measured, as the time was over before: {', '.join(missing)}."] if missing else []
    return "\n\n".join([*texts, ", ".join(f"{key} {value}" for key, value in result["about"].items())]) + "\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def comparison(rows: dict[str, dict[str, list[float]]], floors: dict[str, float], images: int) -> str:
    """Return the table of all pipelines on the same images."""
    totals = {name: sum(row["ms"]) for name, row in rows.items()}
    head = ["", "total s", "median ms an image (quartiles)", "times the floor", "times upstream", "times Ultralytics"]
    head += ["IoU with upstream's masks, mean (least)", "mean IoU with truth", "peak MB"]
    lines = []
    for name, row in rows.items():
        low, middle, high = np.percentile(row["ms"], [25, 50, 75])
        other = totals.get("Ultralytics")
        precision = "bf16" if "bf16" in name else "fp32"
        image, box = (floors[f"least ms {what}, {precision}"] for what in ("an image", "a box"))
        lines.append(
            [
                name,
                f"{totals[name] / 1000:.1f}",
                f"{middle:.0f} ({low:.0f} to {high:.0f})",
                f"{totals[name] / sum(image + count * box for count in row['boxes']):.1f}",
                f"{totals[REFERENCE] / totals[name]:.2f}",
                f"{other / totals[name]:.2f}" if other else "",
                f"{np.mean(row['agreement']):.5f} ({min(row['agreement']):.4f})",
                f"{np.mean(row['iou']):.4f}" if row["iou"] else "no truth",
                f"{row['peak MB'][0]:.0f}",
            ]
        )
    boxes = rows[REFERENCE]["boxes"]
    return f"{len(boxes)} of {images} images with {sum(boxes)} boxes:\n\n" + table(head, lines)


def beside_fastsam(rows: dict[str, dict[str, float]]) -> str:
    """Return the table of FastSAM's networks beside ours with a box."""
    ours = next(iter(rows.values()))
    lines = [
        [name, f"{row['parameters'] / 1e6:.1f}", f"{row['ms']:.0f}"]
        + [f"{row[key] / ours[key]:.1f}" for key in ("parameters", "ms")]
        for name, row in rows.items()
    ]
    head = ["", "million parameters", "ms an image", "times our size", "times our time"]
    return "An image and a box by ours, and an image by FastSAM's networks, random weights:\n\n" + table(head, lines)


def in_fiftyone(rows: dict[str, dict[str, float]]) -> str:
    """Return the table of whole datasets."""
    fastest = {name: min(row["seconds"]) for name, row in rows.items()}
    lines = [
        [
            name,
            " ".join(f"{seconds:.1f}" for seconds in row["seconds"]),
            *(f"{fastest[other] / fastest[name]:.2f}" for other in ("upstream, plain loop", "FiftyOne's own")),
            f"{row['masks']:.0f}",
            f"{row['busy']:.0%}" if row["busy"] else "",
        ]
        for name, row in rows.items()
    ]
    head = ["", "s, each round", "times the plain loop", "times FiftyOne's own", "masks written", "time in the network"]
    return "From JPEGs on disk to labels in the database, factors of the fastest rounds:\n\n" + table(head, lines)


def by_step(steps: dict[str, dict[str, float]]) -> str:
    """Return the table of our steps."""
    names = list(steps["fp32"])
    return "Ours by step, median ms:\n\n" + table(
        ["", *names], [[name, *(f"{row[key]:.2f}" for key in names)] for name, row in steps.items()]
    )


def by_boxes(boxes: dict[str, dict[int, float]]) -> str:
    """Return the table of the cost of boxes in an encoded image."""
    counts = list(next(iter(boxes.values())))
    rows = [[name, *(f"{row[count]:.0f}" for count in counts), f"{further(row):.1f}"] for name, row in boxes.items()]
    return "From an encoded image to the masks of so many boxes, ms, and a further box between 4 and 64:\n\n" + table(
        ["", *(str(count) for count in counts), "a further box"], rows
    )


def further(row: dict[int, float]) -> float:
    """Return the milliseconds of one more box."""
    first, last = sorted(row)[1], max(row)
    return (row[last] - row[first]) / (last - first)


def limits(result: dict[str, Any]) -> str:
    """Return what the machine could do at most, and our distance to it as far as that was measured."""
    floors, lines = result["floors"], []
    for precision, name in NAME_OF.items():
        if f"GFLOP/s {precision}" not in floors:
            lines.append(f"{precision}: this processor has no instructions for it.")
            continue
        image, box = (floors[f"least ms {what}, {precision}"] for what in ("an image", "a box"))
        line = (
            f"{precision}: {floors[f'GFLOP/s {precision}']:.0f} GFLOP/s in oneDNN's products, so at least "
            f"{image:.0f} ms an image ({floors['GFLOP an image']:.1f} GFLOP) "
            f"and {box:.1f} ms a box ({floors['GFLOP a box']:.2f})"
        )
        if "steps" in result:
            line += f"; encoding takes {result['steps'][precision]['encode'] / image:.1f} times that"
        if "boxes" in result:
            line += f"; a further box {further(result['boxes'][name]) / box:.1f} times that"
        lines.append(line + ".")
    return "The floor, the arithmetic at the rate of the largest product:\n" + "\n".join(f"- {x}" for x in lines)


def memory(peaks: dict[int, float]) -> str:
    """Return the line about memory."""
    text = ", ".join(f"{peak:.0f} MB with {count:,} boxes" for count, peak in peaks.items())
    return f"Peak of resident memory on 12 megapixels, the boxes ten times its area: {text}."


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw the cost against the number of boxes and of images."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name, row in result["boxes"].items():
        left.plot(list(row), [ms / 1000 for ms in row.values()], marker="o", label=name)
    left.set(xlabel="boxes in an encoded image", ylabel="seconds", xscale="log", yscale="log", title="Boxes")
    for name, row in result["rows"].items():
        right.plot(np.cumsum(row["ms"]) / 1000, label=name)
    right.set(xlabel="images, with all their boxes", ylabel="seconds", title="Images")
    for axes in (left, right):
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
