"""The documentation refers only to pages, headings and files that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "RESULTS.md"])
SOURCES = ("clients", "core", "gateways", "sandbox", "benchmarks", "examples", "tests")
_CODE = re.compile(r"^```.*?^```|^    .*?$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_SPAN = re.compile(r"`([^`\s]+)`")
_MODULE = re.compile(r"`((?:\w+/)+\w+\.py)`|`(?:python -m )?(portico(?:\.(?!db\b)\w+)+)`")
_PAGE_IN_CODE = re.compile(r"\bdocs/[\w/-]+\.md")


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return _CODE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The fragments of the page's headings, as GitHub forms them."""
    names = (re.sub(r"[`*]", "", heading) for heading in _HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in names}


def files_named_in(page: Path) -> Iterator[str]:
    """Code spans that look like a file or folder of the repository; `*` and `<name>` match any name."""
    for span in _SPAN.findall(page.read_text(encoding="utf-8")):
        if re.match(r"(core|gateways|sandbox|clients|proto|tests|examples|benchmarks|docs)/", span):
            yield re.sub(r"<\w+>", "*", span)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        target, _, fragment = link.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = page.parent / target if target else page
        assert file.exists(), link
        assert not fragment or file.is_dir() or fragment in anchors(file), link


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_the_page_names_exists(name: str) -> None:
    missing = [path for path in files_named_in(ROOT / name) if not list(ROOT.glob(path.rstrip("/")))]
    assert not missing


def test_every_module_that_a_decision_names_exists() -> None:
    files = [f"/{source.relative_to(ROOT)}" for folder in SOURCES for source in (ROOT / folder).rglob("*.py")]
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        for file, module in _MODULE.findall(page.read_text(encoding="utf-8")):
            name = file or module.replace(".", "/")
            ends = f"/{name}", f"/{name}.py", f"/{name}/__init__.py"
            assert any(path.endswith(ends) for path in files), f"{page.name} names {name}"


def test_every_page_that_the_code_names_exists() -> None:
    for folder in SOURCES:
        for source in (ROOT / folder).rglob("*.py"):
            for page in _PAGE_IN_CODE.findall(source.read_text(encoding="utf-8")):
                assert (ROOT / page).is_file(), f"{source.relative_to(ROOT)} names {page}"
