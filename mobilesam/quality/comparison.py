"""Figures of masks that were compared with true ones, mask by mask: means by size and class, calibration, a table."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilesam.packages import require
from mobilesam.quality.metrics import calibration, share_of_gain

SIZES = ("small", "medium", "large")
PREDICTIONS = {"predicted_iou": "Predicted", "mask_quality": "mask_quality"}  # of a mask's IoU, with their words


@dataclass
class Comparison:
    """What a comparison found.

    Attributes:
        rows: one dict an object: image, category, size, iou, boundary_iou, and `PREDICTIONS`, which can be None.
        failed: what could not be compared, an image or a label, and why.
        ap: COCO's average precision of masks; {} without it.
        scored_by: what average precision ranks the masks by.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    ap: dict[str, float] = field(default_factory=dict)
    scored_by: str = "predicted IoU"

    @property
    def title(self) -> str:
        """What was compared."""
        return "Masks beside true ones"

    def mean(self, name: str = "iou", **wanted: str) -> float:
        """Return the mean of a column over all objects, or over those of a size or category; NaN for none."""
        rows = [row for row in self.rows if all(row[key] == value for key, value in wanted.items())]
        values = [row[name] for row in rows if row[name] is not None]
        return float(np.mean(values)) if values else float("nan")

    def calibration(self, name: str = "predicted_iou") -> dict[str, Any]:
        """Compare one of `PREDICTIONS` with the true IoUs of the masks where it is known.

        Gives what `mobilesam.quality.metrics.calibration` gives, the number of masks as `count`, and `share_of_gain`.
        """
        rows = [row for row in self.rows if row[name] is not None]
        told, true = (np.array([row[column] for row in rows]) for column in (name, "iou"))
        return {"count": len(rows), **calibration(told, true), "share_of_gain": share_of_gain(told, true)}

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as plain data."""
        return {
            "objects": len(self.rows),
            "mean_iou": self.mean(),
            "mean_boundary_iou": self.mean("boundary_iou"),
            "by_size": {size: self.mean(size=size) for size in SIZES if any(row["size"] == size for row in self.rows)},
            "by_category": {name: self.mean(category=name) for name in self._categories()},
            "ap": self.ap,
            "scored_by": self.scored_by,
            "calibration": {name: self.calibration(name) for name in PREDICTIONS},
            "failed": self.failed,
            "rows": self.rows,
        }

    def table(self) -> str:
        """Return the figures as Markdown."""
        groups = [("all", {}), *((size, {"size": size}) for size in SIZES)]
        groups += [(name, {"category": name}) for name in self._categories()]
        lines = [self.title, "", "| | objects | mean IoU | boundary IoU | predicted IoU | mask_quality |"]
        lines.append("|---|---|---|---|---|---|")
        for name, wanted in groups:
            count = sum(all(row[key] == value for key, value in wanted.items()) for row in self.rows)
            figures = [self.mean(column, **wanted) for column in ("iou", "boundary_iou", *PREDICTIONS)]
            lines.append(f"| {name} | {count} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
        lines += ["", *filter(None, map(self._told, PREDICTIONS.items()))]
        if self.ap:
            lines.append(f"Masks scored by {self.scored_by}: " + ", ".join(f"{k} {v:.3f}" for k, v in self.ap.items()))
        lines += [f"Not compared: {what}: {reason}" for what, reason in self.failed]
        return "\n".join(lines)

    def plot(self, path: str | Path) -> None:
        """Draw predicted against true IoU.

        Raises:
            MissingPackageError: matplotlib is not installed.
        """
        figure = require("matplotlib.figure").Figure(figsize=(5, 5), layout="constrained")
        axes = figure.subplots()
        for size in SIZES:
            rows = [row for row in self.rows if row["size"] == size and row["predicted_iou"] is not None]
            axes.scatter([r["predicted_iou"] for r in rows], [r["iou"] for r in rows], s=9, alpha=0.6, label=size)
        bins = self.calibration()["bins"]
        axes.plot([b["predicted"] for b in bins], [b["true"] for b in bins], color="black", marker="o", label="mean")
        axes.plot([0, 1], [0, 1], color="gray", linestyle=":")
        axes.set(xlabel="predicted IoU", ylabel="true IoU", xlim=(0, 1.05), ylim=(0, 1.02))
        axes.legend()
        figure.savefig(path, dpi=110)

    def _told(self, prediction: tuple[str, str]) -> str:
        """Say how a prediction goes with the true IoU; "" where it is known of no mask."""
        name, words = prediction
        found = self.calibration(name)
        if not found["count"]:
            return ""
        correlations = [f"{kind} {found[kind]:.2f}" for kind in ("pearson", "spearman") if found[kind] is not None]
        text = f"{words} against true IoU: {', '.join(correlations) or 'too few objects'}; "
        text += f"expected calibration error {found['expected_calibration_error']:.3f}"
        if found["share_of_gain"] is not None:
            text += f"; correcting the lowest quarter wins {found['share_of_gain']:.0%} of what the worst quarter would"
        return text

    def _categories(self) -> list[str]:
        return sorted({row["category"] for row in self.rows})
