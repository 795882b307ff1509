"""The model card: what a checkpoint was made from, what it is better at, and what it forgot."""

from pathlib import Path
from typing import Any

import numpy as np

import mobilesam.weights as weight_files
from mobilesam._version import __version__
from mobilesam.modeling import Sam
from mobilesam.training import PARTS
from mobilesam.training.examples import Example


def start_of(sam: Sam, started_from: str) -> dict[str, Any]:
    """Return what a card says of where a training began; nothing that another run would write differently."""
    weights = {
        "weights": started_from,
        "sha256": weight_files.sha256_of_state(weight_files.used_tensors(sam.state_dict())),
    }
    return {"made_with": f"mobilesam {__version__}", "started_from": weights}


def data_of(examples: list[Example]) -> dict[str, Any]:
    """Return what a card says of the data."""
    areas = [truth.mask.area for one in examples for truth in one.objects]
    return {"images": len(examples), "masks": len(areas), "median_area_in_pixels": float(np.median(areas))}


def describe(card: dict[str, Any], path: Path | None) -> str:
    """Return a card as Markdown, for people."""
    data, settings = card["data"], card["settings"]
    if card["kept"] == "new weights":
        head = f"# {path.name if path else 'New weights'}"
        verdict = f"Masks like these are better: mean IoU {_change(card['images_left_out'])} on images left out."
    else:
        head, verdict = "# The old weights stay", f"{card['reason']} Correct more masks, or masks that are more alike."
    rows = [
        ("images left out", card["images_left_out"]),
        ("photographs, which come with the package", card["photographs"]),
    ]
    chosen = ", ".join(f"{name} {value}" for name, value in settings["recipe"].items())
    lines = [
        head,
        "",
        f"{verdict} Learnt from {data['masks']:,} masks of {data['images']:,} images.",
        "",
        "| measured on | masks | mean IoU | gain | standard error | Spearman of the predicted IoU |",
        "|---|---|---|---|---|---|",
        *(_row(name, found) for name, found in rows if found),
        "",
        _quality(card.get("mask_quality")),
        f"- Started from: {card['started_from']['weights']} (SHA-256 {card['started_from']['sha256'][:16]}...)",
        *_began(card.get("began_with"), settings["share"]),
        f"- Data: SHA-256 {data['sha256'][:16]}..., {data['left_out']} left out",
        f"- Settings: {chosen}",
        f"- {settings['parts']} of {PARTS} parts learnt; {settings['share']:.0%} of the way to the new weights kept",
        f"- Made with: {card['made_with']}",
    ]
    return "\n".join(lines)


def _quality(note: dict[str, Any] | None) -> str:
    if note is None or "slope" not in note:
        return "- `mask_quality` is unknown: for that 20 masks of images left out must be told apart well enough."
    return (
        f"- `mask_quality` on {note['masks']} masks of images left out: Spearman {note['spearman']:.2f}, "
        f"expected calibration error {note['expected_calibration_error']:.3f}"
    )


def _began(start: dict[str, Any] | None, share: float) -> list[str]:
    if start is None or start["decoder"] is None:
        return []
    own, plain = (f"{100 * start[key]:.1f} points" for key in ("gain", "gain_on_photographs"))
    return [
        f"- Learning began with the decoder of {start['decoder']}, which gains {own} on your images by itself"
        + (". What it learnt from them was no better, so none of it is kept" if share == 0 else ""),
        f"- That decoder learnt from these photographs, so of its own gain there {plain} are counted, as elsewhere",
    ]


def _change(found: dict[str, Any]) -> str:
    return f"{found['mean_iou_before']:.3f} -> {found['mean_iou_after']:.3f}"


def _row(name: str, found: dict[str, Any]) -> str:
    error = "" if found["standard_error"] is None else f"{100 * found['standard_error']:.1f}"
    ranks = " -> ".join(
        "" if found[key] is None else f"{found[key]:.2f}" for key in ("spearman_before", "spearman_after")
    )
    gain = round(100 * found["gain"], 1) + 0.0  # not -0.0
    return f"| {name} | {found['masks']} | {_change(found)} | {gain:+.1f} | {error} | {ranks} |"
