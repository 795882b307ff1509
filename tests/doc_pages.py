"""The pages of the documentation: their Python code, and what they link to."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHER_PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "skills").glob("*/SKILL.md"))]
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_EXECUTED = re.compile(r"<!-- not executed:(?P<reason>[^>]*)-->$")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of Python.

    Attributes:
        page: it is on.
        line: number of its first line of code.
        code: itself.
        reason: why it is not executed, or None.
    """

    page: Path
    line: int
    code: str
    reason: str | None

    def execute(self, namespace: dict) -> None:
        """Run it; a traceback names the page and the line."""
        exec(compile("\n" * (self.line - 1) + self.code, self.page, "exec"), namespace)


def blocks(page: Path) -> list[Block]:
    """Return the blocks of Python on a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        before = text[: match.start()]
        marked = NOT_EXECUTED.search(before.removesuffix("\n").rsplit("\n", 1)[-1])
        reason = marked and marked["reason"].strip()
        found.append(Block(page, before.count("\n") + 2, match["code"], reason))
    return found


def links(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures, those in code left out."""
    prose = re.sub(r"^```.*?^```$|^    .*?$|`[^`\n]+`", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [match["target"] for match in LINK.finditer(prose)]


def anchors(page: Path) -> set[str]:
    """Return the names by which the headings of a page can be linked to, as GitHub makes them."""
    headings = HEADING.findall(re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
