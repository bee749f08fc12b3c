"""Pages lead where they say: links and anchors within the project."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: The project's own files; those of vLLM and Kubernetes are named with their version.
FILE = re.compile(r"`((?:docs|hack|manifests|crds|operator|tests|requirements)/[\w./-]+)`")


def anchor(heading):
    """As GitHub makes one of a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page):
    return {anchor(line.lstrip("#")) for line in page.read_text().splitlines() if re.match(r"#+ ", line)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, part = link.partition("#")
        if link.startswith(("http://", "https://")):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (part and part not in anchors(target)):
            wrong.append(link)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_is_there(page):
    named = FILE.findall(page.read_text())
    assert [path for path in named if not (ROOT / path).exists() and not list(ROOT.glob(path))] == []


def test_links_and_files_are_found():
    text = "".join(page.read_text() for page in PAGES)
    assert len(re.findall(r"\]\(([^)\s]+)\)", text)) > 100
    assert len(FILE.findall(text)) > 10
