"""The house has one import direction; this reads the imports and enforces it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "mobilesam").rglob("*.py"))
ADAPTER = sorted((ROOT / "fiftyone_mobilesam").rglob("*.py"))

# Room of `mobilesam`, a folder or a file at its top -> the rooms it may import, besides itself and `errors`.
ALLOWED = {
    "_version": set(),
    "errors": set(),
    "files": set(),
    "packages": set(),
    "prompts": {"geometry"},
    "layout": set(),
    "modeling": {"layout"},
    "geometry": set(),
    "images": set(),
    "weights": {"files", "layout"},
    "embedding_cache": {"files"},
    "answers": {"geometry"},
    "heads": {"geometry", "modeling", "prompts", "weights"},
    "fast": {"answers", "files", "geometry", "heads", "modeling", "weights"},
    "kept_image": {"geometry"},
    "base_predictor": {"answers", "geometry", "images", "kept_image", "prompts"},
    "predictor": {
        "answers",
        "base_predictor",
        "best",
        "embedding_cache",
        "fast",
        "geometry",
        "heads",
        "modeling",
        "prompts",
    },
    "best": {"answers", "geometry", "predictor", "prompts"},
    "runtime": {"answers", "base_predictor", "geometry", "packages", "prompts"},
    "selftest": {"geometry", "modeling", "predictor", "prompts"},
    "build_sam": {"fast", "modeling", "selftest", "weights"},
    "utils": {"geometry", "modeling", "packages"},
    "automatic_mask_generator": {
        "build_sam",
        "fast",
        "geometry",
        "images",
        "modeling",
        "predictor",
        "prompts",
        "utils",
    },
    "motion": {"geometry"},
    "appearance": {"geometry"},
    "carried": {"appearance", "geometry"},
    "propagation": {"appearance", "carried", "geometry", "motion", "predictor", "prompts"},
    "export": {"_version", "files", "geometry", "modeling", "packages", "selftest", "utils", "weights"},
    "quality": {"geometry", "images", "packages", "predictor", "prompts"},
    "training": {
        "_version",
        "embedding_cache",
        "fast",
        "files",
        "geometry",
        "heads",
        "images",
        "modeling",
        "predictor",
        "prompts",
        "quality",
        "selftest",
        "weights",
    },
    "front": {
        "automatic_mask_generator",
        "build_sam",
        "export",
        "fast",
        "geometry",
        "images",
        "modeling",
        "packages",
        "predictor",
        "prompts",
        "quality",
        "selftest",
        "training",
        "weights",
    },
    "cli": {"__version__", "fast", "front", "images", "load_model", "weights"},
    "__main__": {"cli"},
    "__init__": {"_version"},
}
# Room -> packages that it does without, wherever in a file they are imported.
WITHOUT = {
    "errors": {"numpy", "PIL", "cv2", "torch", "timm"},
    "files": {"numpy", "PIL", "cv2", "torch", "timm"},
    "layout": {"numpy", "PIL", "cv2", "torch", "timm"},
    "packages": {"numpy", "PIL", "cv2", "torch", "timm"},
    "modeling": {"numpy", "PIL", "cv2"},
    "images": {"torch", "timm"},
    "embedding_cache": {"torch", "timm", "cv2"},
    "prompts": {"torch", "timm", "cv2"},
    "runtime": {"torch", "timm", "cv2"},
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


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "mobilesam").parts[0].removesuffix(".py")


def rooms(names: set[str], package: str) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith(package + ".")}


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_library_imports_follow_one_direction(path):
    names, room = imported(path), room_of(path)
    assert room in ALLOWED, f"{room} is a new room: say in ALLOWED what it may import"
    assert rooms(names, "mobilesam") <= ALLOWED[room] | {room, "errors"}


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_library_imports_only_the_packages_of_its_room(path):
    packages, room = {name.split(".")[0] for name in imported(path)}, room_of(path)
    assert not packages & {"fiftyone", "fiftyone_mobilesam", "ultralytics"}
    assert not packages & WITHOUT.get(room, set())
    assert room != "modeling" or path.name == "tiny_vit_sam.py" or "timm" not in packages


@pytest.mark.parametrize("path", ADAPTER, ids=lambda p: str(p.relative_to(ROOT)))
def test_adapter_does_no_tensor_arithmetic(path):
    assert not {name for name in imported(path) if name.split(".")[0] in ("torch", "timm", "cv2", "ultralytics")}


def test_modeling_is_reached_by_nobody_in_the_adapter():
    for path in ADAPTER:
        assert "modeling" not in rooms(imported(path), "mobilesam"), path
