"""The house has one import direction; this reads the imports and enforces it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "mobilesam").rglob("*.py"))
ADAPTER = sorted((ROOT / "fiftyone_mobilesam").rglob("*.py"))

# Module of `mobilesam` -> what it may import of `mobilesam`. `errors` may be imported by all.
ALLOWED = {
    "errors": set(),
    "rle": set(),
    "_version": set(),
    "boxes": set(),
    "masks": {"boxes", "products"},
    "frames": set(),
    "transforms": {"frames"},
    "prompts": set(),
    "images": set(),
    "video": set(),
    "download": set(),
    "weights": {"download"},
    "polygons": set(),
    "drawing": set(),
    "result_items": {"polygons"},
    "results": {"drawing", "images", "polygons", "result_items", "rle"},
    "products": set(),
    "heap": set(),
    "fast_encoder": {"modeling", "products"},
    "fast_decoder": {"modeling", "masks", "products"},
    "backend": {"modeling", "masks", "fast_encoder", "fast_decoder", "heap", "products", "weights"},
    "embedding_cache": set(),
    "predictor": {
        "modeling",
        "prompts",
        "transforms",
        "masks",
        "boxes",
        "images",
        "backend",
        "embedding_cache",
        "frames",
    },
    "runtime": {"boxes", "frames", "images", "masks", "prompts"},
    "utils": {"masks", "modeling", "rle", "transforms"},
    "automatic_mask_generator": {"boxes", "images", "masks", "modeling", "predictor", "prompts", "rle", "utils"},
    "selftest": {"modeling", "predictor", "prompts", "boxes"},
    "build": {"modeling", "weights", "selftest"},
    "export": {"export", "_version", "boxes", "modeling", "selftest", "transforms", "utils", "weights"},
    "propagation": {"frames", "masks", "predictor", "prompts"},
    "nested_prompts": {"prompts"},
    "metrics": set(),
    "validation": {"boxes", "images", "metrics", "predictor", "prompts"},
    "__main__": {"cli"},
    "cli": {"__version__", "load_model", "backend", "download", "images", "model", "results", "weights"},
    "model": {
        "automatic_mask_generator",
        "build",
        "export",
        "frames",
        "images",
        "masks",
        "modeling",
        "nested_prompts",
        "predictor",
        "prompts",
        "results",
        "selftest",
        "validation",
    },
}


def imported(path: Path) -> set[str]:
    """Return the dotted names a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms(names: set[str], package: str) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith(package + ".")}


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_library_imports_follow_one_direction(path):
    names, room = imported(path), path.relative_to(ROOT / "mobilesam").parts[0].removesuffix(".py")
    assert not {name for name in names if name.split(".")[0] in ("fiftyone", "fiftyone_mobilesam", "ultralytics")}
    if room == "modeling":
        assert rooms(names, "mobilesam") <= {"modeling"}
        assert path.name == "image_encoder.py" or not any(name.startswith("timm") for name in names)
    elif room != "__init__":
        assert room in ALLOWED, f"{room} is a new room: say in ALLOWED what it may import"
        assert rooms(names, "mobilesam") <= ALLOWED[room] | {"errors"}


@pytest.mark.parametrize("path", ADAPTER, ids=lambda p: str(p.relative_to(ROOT)))
def test_adapter_does_no_tensor_arithmetic(path):
    assert not {name for name in imported(path) if name.split(".")[0] in ("torch", "timm", "cv2", "ultralytics")}


def test_modeling_is_reached_by_nobody_in_the_adapter():
    for path in ADAPTER:
        assert "modeling" not in rooms(imported(path), "mobilesam"), path
