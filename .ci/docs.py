"""The project as a site in _docs/: every notebook, an API reference, a register of licences; every link is checked.

    make docs            build; exit status 1 when a link leads nowhere
    python .ci/docs.py --out DIR

No Quarto, no network, no script in the pages: code is coloured and formulas become MathML while the site is built.
"""
from argparse import ArgumentParser
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
import ast, csv, io, re, shutil, sys, tempfile, tokenize

import markdown, nbformat, yaml
from latex2mathml.converter import convert as mathml
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

ROOT = Path(__file__).resolve().parent.parent
NBS, LIB = ROOT / "nbs", ROOT / "instrument_mtl"
PYTHON, CODE = PythonLexer(), HtmlFormatter()
PAGES = {"CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changelog", "data/README.md": "data", "data/models/README.md": "model_card"}

STYLE = """
:root { color-scheme: light dark; --edge: #8884; --link: light-dark(#0550ae, #79b8ff) }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; display: grid; grid-template-columns: 15rem minmax(0, 1fr); }
nav { padding: 1rem; border-right: 1px solid var(--edge); height: 100vh; overflow: auto; position: sticky; top: 0; box-sizing: border-box; font-size: .9rem }
nav b { display: block; margin-top: .8rem } nav a { display: block; text-decoration: none; padding: .08rem 0 }
nav a[aria-current] { font-weight: 700 } main { padding: 1rem 2rem 4rem; max-width: 60rem; min-width: 0 }
a { color: var(--link) } pre, table { overflow-x: auto; display: block; max-width: 100% } pre { padding: .6rem; border: 1px solid var(--edge); border-radius: 4px; font-size: .85rem; margin: .4rem 0 }
table { border-collapse: collapse; font-size: .9rem } th, td { border: 1px solid var(--edge); padding: .2rem .5rem; text-align: left; vertical-align: top }
blockquote { margin-left: 0; padding-left: 1rem; border-left: 3px solid var(--edge) } h2, h3 { margin-top: 2rem } h3 code { font-size: 1.05rem }
code { font-family: ui-monospace, monospace } .highlight { background: transparent !important }
@media (max-width: 50rem) { body { grid-template-columns: 1fr } nav { height: auto; position: static; border-right: 0; border-bottom: 1px solid var(--edge) } }
"""


# ---------------------------------------------------------------- text

def with_formulas(text):
    "Markdown with $…$ and $$…$$ as MathML; code stays as it is"
    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.S)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"\$\$(.+?)\$\$", lambda m: mathml(m[1].strip(), display="block"), parts[i], flags=re.S)
        parts[i] = re.sub(r"(?<![\\$\w])\$(?=\S)([^$\n]+?)(?<=\S)\$(?![\w$])", lambda m: mathml(m[1]), parts[i])
    return "".join(parts)


def to_html(text):
    return markdown.markdown(with_formulas(text), extensions=["tables", "fenced_code", "toc", "sane_lists"])


def linked(html, names):
    "Inline code that is the name of a notebook or module becomes a link to its page"
    def link(m):
        return f'<a href="{names[m[1]]}"><code>{m[1]}</code></a>' if m[1] in names else m[0]
    return re.sub(r"(?<!>)<code>([\w.]+)</code>(?!</a>)", link, html)


def moved(html, page, places):
    "Links to files of the repository lead to their pages; files without one are named, not linked"
    def target(m):
        url = m[2]
        if re.match(r"[a-z][a-z+.-]*:|#", url):
            return m[0]
        path, _, anchor = url.partition("#")
        file = (page.parent / unquote(path)).resolve()
        if file in places:
            return f'{m[1]}"{places[file]}{"#" + anchor if anchor else ""}"'
        if file.exists() and file.is_relative_to(ROOT):
            return f'data-file="{escape(str(file.relative_to(ROOT)))}"'
        return m[0]
    return re.sub(r'(href=|src=)"([^"]+)"', target, html)


# ---------------------------------------------------------------- notebooks

def output_html(output):
    "What a cell has printed or shown, as text or table"
    if output.output_type == "stream":
        return f"<pre>{escape(output.text)}</pre>"
    data = output.get("data", {})
    return data["text/html"] if "text/html" in data else f"<pre>{escape(data['text/plain'])}</pre>" if "text/plain" in data else ""


def notebook_html(path):
    "The cells of a notebook: prose, code without nbdev's directives, outputs; hidden cells are left out"
    parts = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(to_html(cell.source))
        elif cell.cell_type == "code" and cell.source.strip() and not re.search(r"^#\|\s*(hide\b(?!_)|default_exp)", cell.source, re.M):
            code = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M).strip()
            parts += [highlight(code, PYTHON, CODE), *map(output_html, cell.outputs)]
    return "\n".join(parts)


# ---------------------------------------------------------------- API

def comments(source):
    "Line number → comment that ends that line"
    return {t.start[0]: t.string.lstrip("# ").strip() for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}


def arguments(node, notes):
    "[(name, type, default, what the comment beside it says)] and the note of the result"
    a = node.args
    positional = [*a.posonlyargs, *a.args]
    defaults = dict(zip([x.arg for x in positional[len(positional) - len(a.defaults):]], a.defaults)) | {x.arg: d for x, d in zip(a.kwonlyargs, a.kw_defaults) if d}
    every = positional + ([a.vararg] if a.vararg else []) + a.kwonlyargs + ([a.kwarg] if a.kwarg else [])
    last_on_line = {x.lineno: x.arg for x in every}
    rows = []
    for x in every:
        if x.arg in ("self", "cls"):
            continue
        star = "*" if x is a.vararg else "**" if x is a.kwarg else ""
        note = notes.get(x.lineno, "") if last_on_line[x.lineno] == x.arg and x.lineno != node.lineno else ""
        rows.append((star + x.arg, ast.unparse(x.annotation) if x.annotation else "", ast.unparse(defaults[x.arg]) if x.arg in defaults else "", note))
    end = node.returns.end_lineno if node.returns else max((x.end_lineno for x in every), default=node.lineno) + 1
    return rows, (notes.get(end, "") if end != node.lineno and end < node.body[0].lineno else "")


def prose(text):
    "A docstring as HTML: `code` is code"
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text or ""))


def function_html(node, notes, owner=""):
    rows, result = arguments(node, notes)
    called = node.args
    text = [f'<h3 id="{owner}{node.name}"><code>{escape(owner + node.name)}({escape(ast.unparse(called)) if len(ast.unparse(called)) < 90 else "…"})</code></h3>',
            f"<p>{prose(ast.get_docstring(node))}</p>"]
    if any(note or kind for _, kind, _, note in rows):
        text.append("<table><tr><th>argument</th><th>type</th><th>default</th><th>shape, unit, meaning</th></tr>"
                    + "".join(f"<tr><td><code>{escape(n)}</code></td><td>{escape(k)}</td><td>{escape(d)}</td><td>{prose(c)}</td></tr>" for n, k, d, c in rows) + "</table>")
    if node.returns or result:
        text.append(f"<p>Gives <code>{escape(ast.unparse(node.returns) if node.returns else '')}</code> {escape(result)}</p>")
    return "".join(text)


def class_html(node, notes):
    text = [f'<h3 id="{node.name}"><code>class {escape(node.name)}</code></h3><p>{prose(ast.get_docstring(node))}</p>']
    fields = [(x.target.id, ast.unparse(x.annotation), ast.unparse(x.value) if x.value else "", notes.get(x.end_lineno, "")) for x in node.body if isinstance(x, ast.AnnAssign)]
    if fields:
        text.append("<table><tr><th>field</th><th>type</th><th>default</th><th>shape, unit, meaning</th></tr>" + "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in f) + "</tr>" for f in fields) + "</table>")
    for x in node.body:
        if isinstance(x, ast.FunctionDef) and (x.name == "__init__" and len(x.args.args) > 1 or not x.name.startswith("_") and ast.get_docstring(x)):
            text.append(function_html(x, notes, node.name + "."))
    return "".join(text)


def api_html(path, notebook):
    "What a module offers, from its source: names, arguments with the comments beside them, results"
    source = path.read_text(encoding="utf-8")
    tree, notes = ast.parse(source), comments(source)
    public = next((ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"), [])
    text = [f"<h1>instrument_mtl.{path.stem}</h1><blockquote>{prose(ast.get_docstring(tree))}</blockquote>", f'<p>Explained and tested in <a href="{notebook}.html">{notebook}</a>.</p>']
    for node in tree.body:
        if getattr(node, "name", None) in public:
            text.append(class_html(node, notes) if isinstance(node, ast.ClassDef) else function_html(node, notes))
    values = [t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name) and t.id in public]
    return "\n".join(text) + (f"<h3>Values</h3><p>{', '.join(f'<code>{v}</code>' for v in values)}</p>" if values else "")


# ---------------------------------------------------------------- licences

def licences_html():
    "Every source, weight, dataset and recording with its licence, from data/*.yaml and *.csv"
    rows = []

    def walk(kind, name, node, above):
        if isinstance(node, list):
            node = dict(enumerate(node))
        if not isinstance(node, dict):
            return
        said = {**above, **node}
        if {"client", "inside", "obtain"} & node.keys():
            rows.append((kind, node.get("title") or name, said.get("licence", ""), said.get("use", ""), str(said.get("maker") or said.get("citation") or said.get("source") or "")))
            return
        for key, value in node.items():
            walk(kind, str(key), value, said)

    for file, kind in (("sources.yaml", "sound source"), ("backbones.yaml", "weights"), ("datasets.yaml", "dataset")):
        walk(kind, "", yaml.safe_load((ROOT / "data" / file).read_text(encoding="utf-8")), {})
    text = ["<h1>Register of licences</h1><blockquote>Written from data/*.yaml and data/recordings.csv. The code is under the Apache License 2.0; what is fetched is not.</blockquote>",
            "<table><tr><th>what</th><th>name</th><th>licence</th><th>use</th><th>from</th></tr>" + "".join("<tr>" + "".join(f"<td>{escape(str(c))}</td>" for c in r) + "</tr>" for r in rows) + "</table>"]
    with open(ROOT / "data" / "recordings.csv", encoding="utf-8", newline="") as f:
        recordings = list(csv.DictReader(f))
    counts = {}
    for r in recordings:
        key = (r.get("repository") or r.get("source") or "", r.get("licence", ""), r.get("use", ""))
        counts[key] = counts.get(key, 0) + 1
    text.append(f"<h2>Real recordings ({len(recordings)} files)</h2><table><tr><th>repository</th><th>licence</th><th>use</th><th>files</th></tr>"
                + "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td><td>{escape(c)}</td><td>{n}</td></tr>" for (a, b, c), n in sorted(counts.items())) + "</table>")
    return "\n".join(text), len(rows), len(counts)


# ---------------------------------------------------------------- site and links

class Links(HTMLParser):
    "The links and the anchors of a page"
    def __init__(self):
        super().__init__()
        self.links, self.anchors = [], set()

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        self.anchors |= {a[k] for k in ("id", "name") if a.get(k)}
        self.links += [a[k] for k in ("href", "src") if a.get(k)]


def broken_links(folder):
    "(page, link) of every link inside the site that leads nowhere, and how many were looked at"
    pages = {}
    for page in folder.rglob("*.html"):
        pages[page] = Links()
        pages[page].feed(page.read_text(encoding="utf-8"))
    problems, n = [], 0
    for page, found in pages.items():
        for link in found.links:
            at = urlsplit(link)
            if at.scheme or at.netloc:
                continue
            n += 1
            target = (page.parent / unquote(at.path)).resolve() if at.path else page
            if not target.is_file() or at.fragment and target in pages and unquote(at.fragment) not in pages[target].anchors:
                problems.append((page.name, link))
    return problems, n


def build(out):
    "Write the site to a folder that is put in place when it is whole"
    notebooks = sorted(NBS.glob("*.ipynb"), key=lambda p: (not p.stem[0].isdigit(), p.stem))
    exported = {p.stem: m[1] for p in notebooks for m in [re.search(r"#\|\s*default_exp\s+(\w+)", p.read_text(encoding="utf-8"))] if m}
    places = {p.resolve(): f"{p.stem}.html" for p in notebooks} | {(ROOT / f).resolve(): f"{name}.html" for f, name in PAGES.items()} | {(ROOT / "README.md").resolve(): "index.html"}
    names = {p.stem: f"{p.stem}.html" for p in notebooks} | {m: f"api_{m}.html" for m in exported.values()}
    groups = {"": ["index"], "Tutorials": [p.stem for p in notebooks if p.stem.startswith("tutorial_")], "Notebooks": [p.stem for p in notebooks if p.stem[0].isdigit() or p.stem == "app"],
              "Steps": [p.stem for p in notebooks if p.stem.startswith("step")], "Measurements": [p.stem for p in notebooks if p.stem.startswith("bench")],
              "API": [f"api_{m}" for m in sorted(exported.values())], "Project": [*PAGES.values(), "licences"]}
    pages = {p.stem: moved(notebook_html(p), ROOT / "README.md" if p.stem == "index" else p, places) for p in notebooks}  # index.ipynb becomes README.md
    pages |= {name: moved(to_html((ROOT / file).read_text(encoding="utf-8")), ROOT / file, places) for file, name in PAGES.items() if (ROOT / file).exists()}
    pages |= {f"api_{module}": api_html(LIB / f"{module}.py", notebook) for notebook, module in exported.items()}
    pages["licences"], *counts = licences_html()
    left = set(pages) - {n for g in groups.values() for n in g}
    assert not left, f"pages that no menu names: {left}"
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        scratch = Path(scratch) / "site"
        scratch.mkdir()
        for name, html in pages.items():
            menu = "".join((f"<b>{g}</b>" if g else "") + "".join(f'<a href="{n}.html"{" aria-current=page" if n == name else ""}>{n.removeprefix("api_").removeprefix("tutorial_")}</a>' for n in group if n in pages) for g, group in groups.items())
            (scratch / f"{name}.html").write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(name)} · instrument_mtl</title>'
                                                  f'<link rel="stylesheet" href="style.css"><nav aria-label="pages">{menu}</nav><main>{linked(html, names)}</main></html>', encoding="utf-8")
        light, dark = (HtmlFormatter(style=s).get_style_defs(".highlight") for s in ("default", "github-dark"))
        (scratch / "style.css").write_text(STYLE + light + "\n@media (prefers-color-scheme: dark) {\n" + dark + "\n}\n", encoding="utf-8")
        problems, n = broken_links(scratch)
        shutil.rmtree(out, ignore_errors=True)
        scratch.rename(out)
    return pages, problems, n


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "_docs")
    out = parser.parse_args().out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    pages, problems, n = build(out)
    for page, link in problems:
        print(f"{page} links to {link}: nothing is there", file=sys.stderr)
    print(f"{len(pages)} pages in {out}, {n} links looked at, {len(problems)} broken; open {out / 'index.html'}")
    sys.exit(1 if problems else 0)
