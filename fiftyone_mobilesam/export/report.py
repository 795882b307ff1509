"""The books of an export: every label is a mask that was written, or has a reason."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fiftyone_mobilesam.export.masks import ExportedImage
from fiftyone_mobilesam.polygon_loss import PolygonLoss
from fiftyone_mobilesam.report import SHOWN

FAILURES_LISTED = 1000


@dataclass
class ExportReport:
    """What was written.

    Attributes:
        out: file or folder.
        format: of it.
        images: number of samples.
        labels: number of labels in.
        masks: number of masks out.
        failed: labels without a mask.
        failures: `{"label_id": ..., "sample_id": ..., "reason": ...}`, the first 1,000.
        polygons: what polygons lost, or None.
    """

    out: str
    format: str
    images: int = 0
    labels: int = 0
    masks: int = 0
    failed: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    polygons: PolygonLoss | None = None

    @property
    def ok(self) -> bool:
        """Whether every label has its mask in the output."""
        return self.failed == 0

    def book(self, image: ExportedImage) -> None:
        """Count the labels of an image."""
        self.images += 1
        self.labels += len(image.masks)
        for mask in image.masks:
            if mask.failure is None:
                self.masks += 1
                continue
            self.failed += 1
            if len(self.failures) < FAILURES_LISTED:
                self.failures.append({"label_id": mask.label.id, "sample_id": image.id, "reason": mask.failure})

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        path.write_text(json.dumps(self.as_dict(), indent=1) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        lines = [
            f"{self.format}: {self.masks} masks of {self.labels} labels in {self.images} images, "
            f"{self.failed} without a mask. {self.out}"
        ]
        lines += [f"  {self.polygons}"] if self.polygons is not None else []
        lines += [f"  label {f['label_id']} (sample {f['sample_id']}): {f['reason']}" for f in self.failures[:SHOWN]]
        lines += [f"  ... and {self.failed - SHOWN} more, in the report"] if self.failed > SHOWN else []
        return "\n".join(lines)
