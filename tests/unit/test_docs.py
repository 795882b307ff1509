"""README and docs: their length, their links, their pictures, their commands, and what of their code does not run."""

import os

import pytest
from doc_pages import OTHER_PAGES, PAGES, ROOT, anchors, blocks, links

README = ROOT / "README.md"
NOT_EXECUTED = 3  # blocks of all pages that cannot run here; a new one is counted on purpose


def page_name(page):
    return str(page.relative_to(ROOT))


def test_readme_is_read_in_a_minute():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("command", ["scripts/demo", "scripts/test"])
def test_command_of_the_readme_exists(command):
    assert f"\n    {command} " in README.read_text(encoding="utf-8")
    assert os.access(ROOT / command, os.X_OK)


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES], ids=page_name)
def test_link_leads_somewhere(page):
    for target in links(page):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page if not path else (page.parent / path).resolve()
        assert file.exists(), f"{target} is not there"
        assert file.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


def test_every_page_is_linked_from_the_readme():
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(README)}
    assert [page_name(page) for page in PAGES if page != README and page not in linked] == []


def test_readme_shows_a_picture_before_its_first_code():
    text = README.read_text(encoding="utf-8")
    assert 0 < text.index("](docs/demo.jpg)") < text.index("```python")


def test_blocks_that_are_not_executed_are_few_and_say_why():
    left_out = [block for page in PAGES for block in blocks(page) if block.reason is not None]
    assert [f"{page_name(block.page)}:{block.line}" for block in left_out if len(block.reason) < 10] == []
    assert len(left_out) == NOT_EXECUTED


def test_comment_that_belongs_to_no_block_is_found():
    for page in PAGES:
        marks = page.read_text(encoding="utf-8").count("<!-- not executed")
        assert marks == sum(block.reason is not None for block in blocks(page)), page_name(page)
