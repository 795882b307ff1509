"""The adapter's rooms and the arrows between them, as docs/architecture.md draws them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "fiftyone_mobilesam"
FILES = sorted(ROOT.rglob("*.py"))
# Room, a folder or a file at the top -> the rooms it may import, besides itself. Nothing imports `app` or `cli`.
ALLOWED = {
    "confidence": set(),
    "options": set(),
    "host": set(),
    "database": set(),
    "keep": {"confidence"},
    "polygon_loss": set(),
    "engine": {"options", "polygon_loss"},
    "prompts": {"engine", "options"},
    "labels": {"confidence", "engine", "keep", "options", "prompts"},
    "fields": {"host", "options", "prompts"},
    "tracks": {"engine", "keep", "labels", "options", "prompts"},
    "sources": {"database", "engine", "fields", "host", "keep", "labels", "options", "prompts"},
    "sinks": {
        "confidence",
        "database",
        "engine",
        "fields",
        "keep",
        "labels",
        "options",
        "polygon_loss",
        "prompts",
        "replaced",
        "sources",
        "tracks",
    },
    "runs": {"database", "engine", "fields", "host", "options"},
    "replaced": {"database", "host", "keep"},
    "undo": {"confidence", "engine", "fields", "host", "keep", "options", "replaced", "runs"},
    "jobs": {"database", "engine", "keep", "options", "prompts", "replaced", "runs", "sinks", "sources"},
    "image_loader": {"engine", "options"},
    "zoo": {"engine", "fields", "image_loader", "keep", "labels", "options", "prompts"},
    "models": {"engine", "options", "zoo"},
    "remote_zoo": {"fields", "load_model", "zoo"},
    "cluster": set(),
    "export": {"engine", "fields", "host", "options", "polygon_loss", "prompts"},
    "quality": {"export", "fields", "host", "keep", "prompts", "review", "runs"},
    "training": {"export", "fields", "options", "prompts"},
    "review": {"engine", "fields", "host", "keep", "labels", "models", "options", "prompts", "runs", "zoo"},
    "app": {
        "engine",
        "fields",
        "host",
        "keep",
        "models",
        "options",
        "prompts",
        "quality",
        "replaced",
        "review",
        "runs",
        "training",
        "undo",
    },
    "commands": {"evaluate", "export_masks", "write_report"},
    "cli": {"commands", "jobs", "label_coco", "runs", "sinks"},
    "_plugin_entry": {"app"},
    "__init__": {"export", "jobs", "labels", "models", "quality", "training"},
}
# What runs where FiftyOne is not installed: what it needs of FiftyOne it imports in a function, if at all.
WITHOUT_FIFTYONE = [
    *(path for path in FILES if path.parent.name == "engine"),
    *(ROOT / "sources" / name for name in ("coco.py", "coco_file.py", "json_items.py", "manifest.py")),
    *(ROOT / "sinks" / name for name in ("coco.py", "coco_books.py", "journal.py", "shards.py")),
    *(ROOT / "jobs" / name for name in ("coco.py", "ray.py", "merge_coco.py")),
    *(path for path in FILES if path.parent.name == "commands"),
    *(ROOT / name for name in ("options.py", "polygon_loss.py", "cluster.py", "cli.py")),
]


def imports(nodes) -> set[str]:
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("fiftyone_mobilesam.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert room in ALLOWED, f"{room} is a new room: say in ALLOWED what it may import"
    found = rooms(imports(ast.walk(ast.parse(path.read_text()))))
    assert found - {"__version__"} <= ALLOWED[room] | {room}


def test_arrows_make_no_circle():
    above: dict[str, set[str]] = {}
    for room in ALLOWED:
        todo, seen = list(ALLOWED[room]), set()
        while todo:
            below = todo.pop()
            if below in ALLOWED and below not in seen:
                seen.add(below)
                todo += ALLOWED[below]
        above[room] = seen
    assert not [room for room, below in above.items() if room in below]


@pytest.mark.parametrize("path", WITHOUT_FIFTYONE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_runs_without_fiftyone_imports_none_of_it(path):
    top = [node for node in ast.parse(path.read_text()).body if not isinstance(node, ast.If)]  # `if TYPE_CHECKING`
    names = imports(top)
    assert not {name for name in names if name.split(".")[0] in ("fiftyone", "bson", "pymongo", "ray")}
    needs_fiftyone = {
        "database",
        "fields",
        "host",
        "image_loader",
        "keep",
        "labels",
        "models",
        "prompts",
        "replaced",
        "runs",
        "tracks",
        "undo",
        "zoo",
    }
    assert not rooms(names) & needs_fiftyone
