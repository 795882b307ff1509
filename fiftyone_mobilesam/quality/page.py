"""`fom.write_report`: one HTML page about the masks of a field, which needs nothing beside itself."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from fiftyone.core.collections import SampleCollection

from fiftyone_mobilesam import host
from fiftyone_mobilesam.export.masks import check_masks, class_of
from fiftyone_mobilesam.fields import labels_path
from fiftyone_mobilesam.keep import ACCEPTED, TO_CHECK
from fiftyone_mobilesam.prompts import single_labels
from fiftyone_mobilesam.quality.accept import quality_table
from fiftyone_mobilesam.review.picture import as_data_uri, draw_mask
from fiftyone_mobilesam.runs import settings_of
from mobilesam.errors import reason_of
from mobilesam.files import replacing
from mobilesam.images import read_image

BINS, CLASSES, EXAMPLES, REASONS = 20, 6, 4, 20
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse}
td,th{padding:.25em .9em .25em 0;text-align:left;border-bottom:1px solid #ddd}
.numbers b{font-size:1.6em;display:block}.numbers div{display:inline-block;margin-right:2.5em}
.row{display:flex;gap:8px;flex-wrap:wrap}.row figure{margin:0;width:235px}.row img{width:100%}
figcaption,.note{color:#666;font-size:.85em}
"""


def write_report(samples: SampleCollection, label_field: str, path: str | Path) -> Path:
    """Write a page about the masks of a field: how good they are told to be, the worst of the worst classes, failures.

    Args:
        samples: a dataset or view of images.
        label_field: field of Detections with masks and their `mask_quality`.
        path: HTML file to write. Pictures are in it.

    Returns:
        The path.

    Raises:
        FieldError: a field without masks, or without `mask_quality`.
        OSError: the page cannot be written.
    """
    check_masks(samples, label_field, "label_field")
    table = quality_table(samples, label_field)
    quality, classes = np.array(table["mask_quality"]), np.array([name or "object" for name in table["label"]])
    failures = _failures(samples, label_field)
    parts = [
        f"<h1>{escape(label_field)} of {escape(host.root_dataset(samples).name)}</h1>",
        _numbers(table, quality, sum(failures.values())),
        "<h2>How good the masks are</h2>" + _histogram(quality),
        "<p class=note>mask_quality is the IoU with a person's mask that is to be expected. It is an estimate: "
        "fom.evaluate measures, fom.accept promises.</p>",
        _classes(quality, classes),
        _worst(samples, label_field, table, quality, classes),
        _list("Without a mask", [f"{why} ({count:,})" for why, count in failures.items()]),
        _list(
            "Settings",
            [f"{name}: {value}" for name, value in settings_of(host.root_dataset(samples), label_field).items()],
        ),
    ]
    page = f"<!doctype html><meta charset=utf-8><title>{escape(label_field)}</title><style>{STYLE}</style>"
    with replacing(path) as unfinished:
        Path(unfinished).write_text(page + "\n".join(parts) + "\n", encoding="utf-8")
    return Path(path)


def _numbers(table: dict, quality: np.ndarray, failed: int) -> str:
    tags, review = table["tags"], table["review"]
    numbers = {
        "masks": len(quality),
        "expected IoU on average": f"{quality.mean():.2f}",
        "expected below 0.5": int((quality < 0.5).sum()),
        "accepted under a promise": sum(ACCEPTED in some for some in tags),
        "to check": sum(TO_CHECK in some and not done for some, done in zip(tags, review, strict=True)),
        "accepted in review": review.count("accepted"),
        "rejected in review": review.count("rejected"),
        "without a mask": failed,
    }
    cells = (f"<div><b>{value}</b>{name}</div>" for name, value in numbers.items())
    return f"<div class=numbers>{''.join(cells)}</div>"


def _histogram(quality: np.ndarray) -> str:
    counts, edges = np.histogram(quality, BINS, (0, 1))
    bars = (
        f"<rect x={30 * i + 1} y={150 - 140 * count / max(1, counts.max()):.1f} width=28 "
        f"height={140 * count / max(1, counts.max()):.1f} fill='#ff6d04'><title>{low:.2f} to {low + 1 / BINS:.2f}: "
        f"{count:,}</title></rect>"
        for i, (count, low) in enumerate(zip(counts, edges, strict=False))
    )
    marks = (
        f"<text x={30 * BINS * mark:.0f} y=170 font-size=13 text-anchor={anchor}>{mark}</text>"
        for mark, anchor in ((0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1, "end"))
    )
    return f"<svg viewBox='0 0 {30 * BINS} 175' width='100%'>{''.join(bars)}{''.join(marks)}</svg>"


def _classes(quality: np.ndarray, classes: np.ndarray) -> str:
    rows = (
        f"<tr><td>{escape(name)}<td>{len(some):,}<td>{some.mean():.2f}<td>{(some < 0.5).mean():.0%}"
        for name, some in ((name, quality[classes == name]) for name in _by_quality(quality, classes))
    )
    head = "<tr><th>class<th>masks<th>expected IoU<th>below 0.5"
    return f"<h2>Classes, worst first</h2><table>{head}{''.join(rows)}</table>"


def _by_quality(quality: np.ndarray, classes: np.ndarray) -> list[str]:
    return sorted(set(classes.tolist()), key=lambda name: quality[classes == name].mean())


def _worst(samples: SampleCollection, label_field: str, table: dict, quality: np.ndarray, classes: np.ndarray) -> str:
    """Show the masks with the lowest quality of the classes with the lowest."""
    parts = ["<h2>The worst masks of the worst classes</h2>"]
    for name in _by_quality(quality, classes)[:CLASSES]:
        chosen = np.flatnonzero(classes == name)
        chosen = chosen[np.argsort(quality[chosen])][:EXAMPLES]
        figures = (
            f"<figure>{_picture(samples, label_field, table['sample_id'][i], table['id'][i])}"
            f"<figcaption>expected IoU {quality[i]:.2f}</figcaption></figure>"
            for i in chosen
        )
        parts.append(f"<h3>{escape(name)}</h3><div class=row>{''.join(figures)}</div>")
    return "\n".join(parts)


def _picture(samples: SampleCollection, label_field: str, sample_id: str, label_id: str) -> str:
    """Return a mask on its image, or why it cannot be drawn."""
    sample = samples[sample_id]
    try:
        [label] = [label for label in single_labels(sample[label_field]) if label.id == label_id]
        picture = draw_mask(read_image(sample.filepath), label.get_mask(), label.bounding_box, None)
    except Exception as error:  # one bad image never costs the page
        return f"<p class=note>{escape(reason_of(error))}</p>"
    picture.thumbnail((470, 470))
    return f"<img alt='{escape(class_of(label))}' src='{as_data_uri(picture)}'>"


def _failures(samples: SampleCollection, label_field: str) -> dict[str, int]:
    path = f"{labels_path(samples, label_field)}.failure"
    if samples.get_field(path) is None:
        return {}
    return {why: count for why, count in samples.count_values(path).items() if why is not None}


def _list(title: str, rows: Sequence[str]) -> str:
    if not rows:
        return ""
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{escape(row)}' for row in rows[:REASONS])}</ul>"
