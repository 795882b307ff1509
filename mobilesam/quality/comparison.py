"""Figures of masks that were compared with true ones, mask by mask: means by size and class, calibration, a table."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mobilesam.packages import require
from mobilesam.quality.metrics import calibration

SIZES = ("small", "medium", "large")


@dataclass
class Comparison:
    """What a comparison found.

    Attributes:
        rows: one dict an object: image, category, size, iou, boundary_iou, predicted_iou, which can be None.
        failed: what could not be compared, an image or a label, and why.
        ap: COCO's average precision of masks; {} without it.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    ap: dict[str, float] = field(default_factory=dict)
    scored_by: ClassVar[str] = "predicted IoU"  # what average precision ranks the masks by

    @property
    def title(self) -> str:
        """What was compared."""
        return "Masks beside true ones"

    def mean(self, name: str = "iou", **wanted: str) -> float:
        """Return the mean of a column over all objects, or over those of a size or category; NaN for none."""
        rows = [row for row in self.rows if all(row[key] == value for key, value in wanted.items())]
        values = [row[name] for row in rows if row[name] is not None]
        return float(np.mean(values)) if values else float("nan")

    def calibration(self) -> dict[str, Any]:
        """Compare predicted with true IoUs, see `mobilesam.quality.metrics.calibration`."""
        rows = [row for row in self.rows if row["predicted_iou"] is not None]
        return calibration(*(np.array([row[name] for row in rows]) for name in ("predicted_iou", "iou")))

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as plain data."""
        return {
            "objects": len(self.rows),
            "mean_iou": self.mean(),
            "mean_boundary_iou": self.mean("boundary_iou"),
            "by_size": {size: self.mean(size=size) for size in SIZES if any(row["size"] == size for row in self.rows)},
            "by_category": {name: self.mean(category=name) for name in self._categories()},
            "ap": self.ap,
            "calibration": self.calibration(),
            "failed": self.failed,
            "rows": self.rows,
        }

    def table(self) -> str:
        """Return the figures as Markdown."""
        found = self.calibration()
        groups = [("all", {}), *((size, {"size": size}) for size in SIZES)]
        groups += [(name, {"category": name}) for name in self._categories()]
        lines = [self.title, "", "| | objects | mean IoU | boundary IoU | predicted IoU |"]
        lines.append("|---|---|---|---|---|")
        for name, wanted in groups:
            count = sum(all(row[key] == value for key, value in wanted.items()) for row in self.rows)
            figures = [self.mean(column, **wanted) for column in ("iou", "boundary_iou", "predicted_iou")]
            lines.append(f"| {name} | {count} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
        correlations = [f"{name} {found[name]:.2f}" for name in ("pearson", "spearman") if found[name] is not None]
        lines += ["", f"Predicted against true IoU: {', '.join(correlations) or 'too few objects'}; "]
        lines[-1] += f"expected calibration error {found['expected_calibration_error']:.3f}"
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

    def _categories(self) -> list[str]:
        return sorted({row["category"] for row in self.rows})
