"""`make docs` writes every page that is made from the code."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_every_script_that_writes_a_page_is_called():
    scripts = {path.name: ast.get_docstring(ast.parse(path.read_text())) for path in ROOT.glob("hack/*.py")}
    writing = {name for name, words in scripts.items() if re.match(r"Writes .*docs/\w+\.md", words or "")}
    recipe = re.search(r"^docs:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"hack/(\w+\.py)", recipe[1])) == writing
    assert len(writing) >= 6
