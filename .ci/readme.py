"""Write README.md from nbs/index.ipynb; with --check, only say whether they agree.

Quarto, which nbdev uses for this, is not to be had on every machine; nbconvert is.
Cells with `#| hide` or `#| default_exp` are left out, other `#|` lines are taken off the code that is shown.
"""
from pathlib import Path
import difflib, re, sys

import nbformat
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
DIRECTIVE = re.compile(r"^\s*#\s*\|.*\n?", re.MULTILINE)
LEFT_OUT = re.compile(r"^\s*#\s*\|\s*(hide|default_exp)\b", re.MULTILINE)


def readme(root=ROOT):
    "The text that README.md shall have"
    nb = nbformat.read(root / "nbs" / "index.ipynb", as_version=4)
    cells = []
    for cell in nb.cells:
        if cell.cell_type == "code":
            if LEFT_OUT.search(cell.source):
                continue
            cell.source = DIRECTIVE.sub("", cell.source).strip()
        if cell.source.strip():
            cells.append(cell)
    nb.cells = cells
    text, resources = MarkdownExporter().from_notebook_node(nb)
    if resources.get("outputs"):
        sys.exit(f"nbs/index.ipynb holds pictures ({', '.join(resources['outputs'])}); clear its outputs and use text.")
    text = "\n".join(line.rstrip() for line in text.splitlines())
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    return "<!-- written from nbs/index.ipynb by `make readme`; edit that -->\n\n" + text


if __name__ == "__main__":
    path, text = ROOT / "README.md", readme()
    if "--check" not in sys.argv[1:]:
        path.write_text(text, encoding="utf-8")
    elif (have := path.read_text(encoding="utf-8") if path.exists() else "") != text:
        diff = difflib.unified_diff(have.splitlines(), text.splitlines(), "README.md", "nbs/index.ipynb", lineterm="", n=0)
        sys.exit("README.md differs from nbs/index.ipynb; run `make readme`.\n" + "\n".join(list(diff)[:20]))
