"""The project's test runner: structure checks, the tests of every notebook, a short run of every step, the command line.

    make test                                  everything
    make check                                 the structure checks only
    python .ci/check.py --only 20_multitrack   what has this in its name; --list shows the names

A check is a function with one sentence that says what holds; it returns the list of what does not.
All run, whatever fails before them; what this machine cannot try is skipped, says so, and is not counted; the last line counts the rest, and the exit status is 0 when all passed.
"""
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
import ast, csv, json, math, os, re, shutil, signal, struct, subprocess, sys, tempfile, time, wave, zipfile

import nbformat, yaml

ROOT = Path(__file__).resolve().parent.parent
NBS, LIB, BIN = ROOT / "nbs", ROOT / "instrument_mtl", Path(sys.prefix) / "bin"
SMOKE = yaml.safe_load((ROOT / ".ci" / "smoke.yaml").read_text(encoding="utf-8"))

GENERATED = {"__init__.py", "_modidx.py"}
HEADINGS = ["Question", "What is new", "Parameters", "Data", "Model", "Training", "Results", "What we learned"]
PARAMETERS = "instruments dataset data_dir backbone init tasks epochs batch_size seed device out_dir".split()
HEAVY = "fastai essentia librosa music21 lancedb mirdata tinysoundfont pretty_midi torchaudio IPython ipywidgets anywidget dask".split()
MAX_NOTEBOOK, MAX_FILE = 200_000, 5_000_000  # bytes


# ---------------------------------------------------------------- machinery

@dataclass
class Check:
    group: str      # structure | corpus | notebooks | steps | use
    name: str
    sentence: str   # what holds when it passes
    run: object     # () -> list of problems


STRUCTURE = []
RUNNING = set()  # what was started and has not ended


def stop_all(*_):
    "Leave nothing running behind when the runner itself is ended"
    for process in list(RUNNING):
        os.killpg(process.pid, signal.SIGKILL)
    os._exit(1)


class Skipped(Exception):
    "A check could not be tried on this machine: it counts neither as passed nor as failed"


def structure(function):
    "Register a structure check under its own name and docstring"
    STRUCTURE.append(Check("structure", function.__name__, function.__doc__, function))
    return function


def call(*command, cwd=ROOT, timeout=900, **env):
    "(exit status, what it printed); a command that hangs is ended with all it started"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "JUPYTER_PREFER_ENV_PATH": "1",
                   "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **env}
    process = subprocess.Popen([str(c) for c in command], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
    RUNNING.add(process)
    try:
        printed = process.communicate(timeout=timeout)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return -1, f"{process.communicate()[0]}\nnot finished after {timeout} s"
    finally:
        RUNNING.discard(process)
    return process.returncode, re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", printed)


def failed(status, printed, lines=40):
    "No problem when the status is 0, else the end of what was printed"
    return [] if status == 0 else [f"exit status {status}", *printed.rstrip().splitlines()[-lines:]]


@cache
def files():
    "Every file of the project: tracked by git or about to be, as paths relative to ROOT"
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(n) for n in sorted(set(names.split("\0")) - {""}) if (ROOT / n).is_file()]


@cache
def notebooks():
    "Notebook name → its content"
    return {p.stem: nbformat.read(p, as_version=4) for p in sorted(NBS.glob("*.ipynb"))}


def steps():
    return [name for name in notebooks() if name.startswith("step")]


def declared_parameters(name):
    "Names that the parameters cell of a step assigns"
    cells = [c for c in notebooks()[name].cells if "parameters" in tags(c)]
    return {t.id for c in cells for node in ast.parse(c.source).body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)}


def modules():
    "Module name → syntax tree, of the modules that notebooks are exported to"
    return {p.stem: ast.parse(p.read_text(encoding="utf-8")) for p in sorted(LIB.glob("*.py")) if p.name not in GENERATED}


def tags(cell):
    return cell.metadata.get("tags", [])


def exported_to(nb):
    "The module a notebook is exported to, or None"
    found = [m[1] for cell in nb.cells if cell.cell_type == "code" for m in [re.search(r"^#\|\s*default_exp\s+(\S+)", cell.source, re.M)] if m]
    return found[0] if found else None


def imports(tree):
    "(name, at the top level?) of everything that a module imports; the project's own modules as '.name'"
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) for n in ast.walk(f)}
    for node in ast.walk(tree):
        top = id(node) not in inside
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield re.sub(r"^instrument_mtl(\.|$)", ".", alias.name), top
        elif isinstance(node, ast.ImportFrom):
            base = "." + (node.module or "") if node.level else re.sub(r"^instrument_mtl(\.|$)", ".", node.module)
            if base == ".":
                yield from (("." + alias.name, top) for alias in node.names)
            else:
                yield base, top


def house():
    "The table of the house in index.ipynb: [(layer, notebook, module or None)], layers from the ground up"
    text = "\n".join(c.source for c in notebooks()["index"].cells if c.cell_type == "markdown")
    match = re.search(r"^\|\s*layer\s*\|.*\n\|[-| :]+\n((?:\|.*\n?)+)", text, re.M)
    assert match, "index.ipynb has no table that begins `| layer | notebook | module |`"
    rows, layer = [], ""
    for line in match[1].strip().splitlines():
        first, nbs, mods, *_ = [c.strip() for c in line.strip().strip("|").split("|")]
        layer = first or layer
        names, targets = re.findall(r"`([^`]+)`", nbs), re.findall(r"`([^`]+)`", mods)
        rows += [(layer, n, targets[i] if i < len(targets) else None) for i, n in enumerate(names)]
    return rows


# ---------------------------------------------------------------- structure

@structure
def house_table():
    "The table in index.ipynb names every notebook that there is, with the module it is exported to"
    want = {name: exported_to(nb) for name, nb in notebooks().items() if name != "index"}
    have = {notebook: module for _, notebook, module in house() if notebook != "index"}
    return ([f"{n}.ipynb is not in the table" for n in want.keys() - have.keys()]
            + [f"{n} is in the table, but there is no nbs/{n}.ipynb" for n in have.keys() - want.keys()]
            + [f"{n}.ipynb is exported to {want[n]}, the table says {have[n]}" for n in want.keys() & have.keys() if want[n] != have[n]])


@structure
def layers():
    "A module imports only modules of its own or a lower layer, and never in a circle"
    order = list(dict.fromkeys(layer for layer, _, _ in house()))
    layer = {module: order.index(name) for name, _, module in house() if module}
    graph = {m: {n[1:].split(".")[0] for n, _ in imports(tree) if n.startswith(".")} for m, tree in modules().items()}
    graph = {m: {n for n in needs if n in graph} for m, needs in graph.items()}
    problems = [f"{m} ({order[layer[m]]}) imports {n} ({order[layer[n]]}), which is higher"
                for m in graph for n in graph[m] if m in layer and n in layer and layer[n] > layer[m]]
    while leaves := [m for m, needs in graph.items() if not needs]:
        graph = {m: needs - set(leaves) for m, needs in graph.items() if m not in leaves}
    return problems + ([f"imports go in a circle among {', '.join(sorted(graph))}"] if graph else [])


@structure
def declared():
    "Every package that a module imports is declared in settings.ini; at the top level, only what `requirements` names"
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    names = {k: {re.split(r"[<>=!~\[;]", r)[0].lower().replace("_", "-") for r in config["DEFAULT"][k].split()} for k in ("requirements", "dev_requirements", "encoder_requirements", "psds_requirements", "onnx_requirements")}
    everywhere = set.union(*names.values()) | {"tinysoundfont"}  # Makefile installs it by itself
    dists, problems = packages_distributions(), set()
    for module, tree in modules().items():
        for name, top in imports(tree):
            package = name.split(".")[0]
            if not package or package in sys.stdlib_module_names:
                continue
            of = {d.lower().replace("_", "-") for d in dists.get(package, [package])}
            if not of & (names["requirements"] if top else everywhere):
                problems.add(f"{module} imports {package} {'at the top level' if top else 'in a function'}: not in {'requirements' if top else 'requirements or dev_requirements'}")
    return sorted(problems)


@structure
def light_import():
    "`import instrument_mtl` and its analysis load none of the heavy packages, and Essentia (AGPL) can be absent"
    code = ("import sys; sys.modules['essentia'] = sys.modules['pedalboard'] = None\n"
            "import instrument_mtl as imtl\ngetattr(imtl, 'analyze')\n"
            f"print('loaded:', *[m for m in {HEAVY!r} if sys.modules.get(m)])")
    status, printed = call(sys.executable, "-c", code, cwd=tempfile.gettempdir())
    loaded = re.findall(r"^loaded:(.*)$", printed, re.M)
    return failed(status, printed, 3) or [f"`import instrument_mtl` loads {m}" for m in loaded[0].split()]


@structure
def parameters_cell():
    "Every step has exactly one cell tagged `parameters`, scalars with a reason after each, right before `checked_parameters`"
    problems = [] if steps() else ["there is no nbs/step*.ipynb"]
    for name in steps():
        code = [c for c in notebooks()[name].cells if c.cell_type == "code"]
        at = [i for i, c in enumerate(code) if "parameters" in tags(c)]
        if any("injected-parameters" in tags(c) for c in code):
            problems.append(f"{name}: holds a cell that papermill injected")
        if len(at) != 1:
            problems.append(f"{name}: {len(at)} cells are tagged `parameters`, there must be one")
            continue
        cell, after = code[at[0]], code[at[0] + 1].source if at[0] + 1 < len(code) else ""
        if "checked_parameters(" not in after:
            problems.append(f"{name}: the cell after the parameters does not call checked_parameters")
        lines, known = cell.source.splitlines(), set()
        for node in ast.parse(cell.source).body:
            if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
                problems.append(f"{name}: `{lines[node.lineno - 1]}` is no parameter")
                continue
            known.add(node.targets[0].id)
            try:
                scalar = isinstance(ast.literal_eval(node.value), (str, int, float, bool, type(None)))
            except ValueError:
                scalar = False
            if not scalar:
                problems.append(f"{name}: parameter {node.targets[0].id} is not a plain scalar")
            if "#" not in lines[node.end_lineno - 1][node.end_col_offset:]:
                problems.append(f"{name}: parameter {node.targets[0].id} has no reason after it")
        if re.match(r"step\d", name):  # the steps of the plan can be called alike; others have parameters of their own
            problems += [f"{name}: parameter {p} is missing" for p in PARAMETERS if p not in known]
    return problems


@structure
def headings():
    "Every step has the same headings, in the same order"
    problems = []
    for name in steps():
        have = [h.strip() for c in notebooks()[name].cells if c.cell_type == "markdown" for h in re.findall(r"^## +(.+)$", c.source, re.M)]
        at = -1
        for heading in HEADINGS:
            found = [i for i, h in enumerate(have) if h == heading or h.startswith((heading + " ", heading + ":", heading + ","))]
            if not found:
                problems.append(f"{name}: no heading `## {heading}`")
            elif found[0] < at:
                problems.append(f"{name}: `## {heading}` stands too early")
            else:
                at = found[0]
    return problems


@structure
def small_notebooks():
    "Notebooks are at most 200 KB and hold no picture, no sound and no error"
    problems = []
    for name, nb in notebooks().items():
        size = (NBS / f"{name}.ipynb").stat().st_size
        if size > MAX_NOTEBOOK:
            problems.append(f"{name}: {size // 1000} KB")
        for output in (o for c in nb.cells for o in c.get("outputs", [])):
            text = json.dumps(output)
            kinds = [k for k in output.get("data", {}) if k.split("/")[0] in ("image", "audio", "video")]
            if kinds or "<audio" in text or re.search(r"data:(image|audio|video)/", text):
                problems.append(f"{name}: an output holds {', '.join(kinds) or 'a picture or sound'}")
            if output.output_type == "error":
                problems.append(f"{name}: an output is an error ({output.ename})")
    return sorted(set(problems))


@structure
def titles():
    "A notebook begins with a title and one line that says what it is, and explains itself in prose"
    problems = []
    for name, nb in notebooks().items():
        first = nb.cells[0].source if nb.cells and nb.cells[0].cell_type == "markdown" else ""
        if not re.match(r"# \S.*\n+> \S", first):
            problems.append(f"{name}: does not begin with `# title` and `> one line`")
        prose = [c for c in nb.cells[1:] if c.cell_type == "markdown"]
        if name != "index" and not prose:
            problems.append(f"{name}: has no prose")
    return problems


def differences(tool):
    "Names of notebooks and modules that an nbdev tool changes in a copy of the project, and what it prints when it fails"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "instrument_mtl"
        for path in files():
            if path.parts[0] in ("nbs", "instrument_mtl") or len(path.parts) == 1:
                (copy / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / path, copy / path)
        before = {p.relative_to(copy): p.read_bytes() for p in copy.rglob("*") if p.is_file()}
        status, printed = call(BIN / tool, cwd=copy, PYTHONDONTWRITEBYTECODE="1")
        after = {p.relative_to(copy): p.read_bytes() for p in copy.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    changed = sorted(str(p) for p in before.keys() | after.keys() if before.get(p) != after.get(p))
    return failed(status, printed) + [f"{tool} changes {p}: run it and commit" for p in changed]


@structure
def clean():
    "`nbdev_clean` has nothing to clean"
    return differences("nbdev_clean")


@structure
def exported():
    "The committed package is what `nbdev_export` makes of the notebooks"
    notes = [f"{p.name} is exported from no notebook" for p in LIB.glob("*.py") if p.name not in GENERATED
             and p.stem not in {exported_to(nb) for nb in notebooks().values()}]
    return differences("nbdev_export") + notes


@structure
def readme():
    "README.md is what `make readme` makes of nbs/index.ipynb"
    return failed(*call(sys.executable, ROOT / ".ci" / "readme.py", "--check"))


@structure
def promised_commands():
    "The README shows the two commands and the papermill line, and every `make` target and file that the pages name is there"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    papermill = "papermill nbs/step3.ipynb out.ipynb -p instruments drums,bass"
    problems = [f"README.md does not show `{c}`" for c in ("make run", "make test", papermill) if c not in text]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    if papermill not in makefile:
        problems.append(f"`make run` does not execute `{papermill}`")
    for page in [p for p in files() if p.suffix == ".md"]:
        text = (ROOT / page).read_text(encoding="utf-8")
        named = set(re.findall(r"`make ([a-z][a-z-]*)`", text)) | set(re.findall(r"^(?:\$ )?make ([a-z][a-z-]*)", text, re.M) if "```" in text else [])
        problems += [f"{page} names `make {t}`: no such target" for t in named if not re.search(rf"^{t}:", makefile, re.M)]
        links = [u for u in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if not re.match(r"[a-z]+:", u)]
        problems += [f"{page} links to {u}: no such file" for u in links if not (ROOT / page.parent / u).exists()]
    return problems


@structure
def no_registry_address():
    "No address of a package registry stands in the project: packages are named, clients know where they are"
    words = "pypi|pythonhosted|npmjs|unpkg|jsdelivr|anaconda|conda|crates|debian|ubuntu|maven|rubygems"
    address = re.compile(rf"(?:https?|git|ftp)://[^\s\"'<>/]*(?:{words})|\b(?:[\w-]+\.)*(?:{words})\.(?:org|com|net|io)\b", re.I)
    problems = []
    for path in files():
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        problems += [f"{path}: {m}" for m in sorted(set(address.findall(text)))]
    return problems


@structure
def licences():
    "Every source, weight and dataset in data/*.yaml states its licence; what is fetched also its version and sha256"
    problems = []

    def walk(where, node, above):
        "`above`: what the entries around this one say, which holds for this one too"
        if isinstance(node, list):
            node = dict(enumerate(node))
        if not isinstance(node, dict):
            return
        said = {**above, **node}
        if {"client", "inside", "obtain"} & node.keys() and not said.get("licence"):  # a source, a weight, a dataset
            problems.append(f"{where}: no licence")
        if "client" in node:
            problems.extend(f"{where}: no {' or '.join(fields)}" for fields in (("version", "commit"), ("sha256", "files")) if not any(map(said.get, fields)))
        if "obtain" in node and said.get("use") not in ("train-ok", "eval-only"):
            problems.append(f"{where}: `use` is neither train-ok nor eval-only")
        for key, value in node.items():
            walk(f"{where}: {key}", value, said)

    about = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for path in [p for p in files() if p.parts[0] == "data" and p.suffix == ".yaml"]:
        walk(path.name, yaml.safe_load((ROOT / path).read_text(encoding="utf-8")), {})
        if f"`{path.name}`" not in about:
            problems.append(f"data/README.md does not say what {path.name} is")
    for path in [p for p in files() if p.parts[0] == "data" and p.suffix == ".csv"]:
        with open(ROOT / path, encoding="utf-8", newline="") as f:
            rows = list(csv.DictReader(f))
        if rows and "sha256" in rows[0]:
            problems += [f"{path.name} line {i}: no licence or no sha256" for i, row in enumerate(rows, 2) if not (row.get("licence") and row["sha256"])]
    return problems


@structure
def wheel():
    "A built wheel holds all modules and all committed data, and works outside the checkout"
    with tempfile.TemporaryDirectory() as folder:
        copy, unpacked = Path(folder) / "copy", Path(folder) / "site"
        for path in files():
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, copy / path)
        problems = failed(*call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, copy), lines=5)
        if problems:
            return problems
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as archive:
            archive.extractall(unpacked)
        missing = [p for p in files() if p.parts[0] in ("instrument_mtl", "data") and not (unpacked / "instrument_mtl" / p.relative_to("instrument_mtl" if p.parts[0] == "instrument_mtl" else ".")).exists()]
        code = "from instrument_mtl import core; assert core.checkout() is None, core.checkout(); print(len(core.load_yaml('taxonomy.yaml')), core.__file__)"
        status, printed = call(sys.executable, "-c", code, cwd=folder, PYTHONPATH=str(unpacked))
        return [f"{p} is not in it (package_data in setup.py)" for p in missing] + failed(status, printed, lines=3)


@structure
def small_files():
    "No committed file is larger than 5 MB outside data/models, and no recording or run is committed"
    unwanted = (".wav", ".mp3", ".ogg", ".flac", ".sf2", ".deb", ".whl", ".pkl", ".pth", ".pt")
    return ([f"{p}: {(ROOT / p).stat().st_size / 1e6:.1f} MB" for p in files() if (ROOT / p).stat().st_size > MAX_FILE and p.parts[:2] != ("data", "models")]
            + [f"{p}: belongs to a cache, not to the project" for p in files() if p.suffix in unwanted])


@structure
def no_loose_ends():
    "Nothing is left to do in the code: no TODO, FIXME or XXX, no merge marker, no absolute path of one machine"
    loose = re.compile(r"\b(?:TODO|FIXME|XXX)\b|^(?:<{7}|>{7}) |(?:/home/\w+|/Users/\w+|/root|/work)/", re.M)
    problems = []
    for path in files():
        if path.suffix in (".py", ".ipynb", ".yaml", ".yml", ".ini", ".toml") and path != Path(".ci/check.py"):
            text = (ROOT / path).read_text(encoding="utf-8")
            problems += [f"{path}:{text[:m.start()].count(chr(10)) + 1}: {m[0].strip()}" for m in loose.finditer(text)]
    return problems


@structure
def readable():
    "Every YAML and JSON file can be read, and .ci/run and CI start the same tests as the README says"
    problems = []
    for path in [p for p in files() if p.suffix in (".yaml", ".yml", ".json")]:
        try:
            yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            problems.append(f"{path}: {' '.join(str(error).split())}")
    for path, line in ((".ci/run", "make test"), (".github/workflows/ci.yml", "bash .ci/run")):
        if line not in (ROOT / path).read_text(encoding="utf-8"):
            problems.append(f"{path} does not call `{line}`")
    return problems


@structure
def kernel():
    "The `python3` kernel that papermill starts is this environment's"
    from jupyter_client.kernelspec import KernelSpecManager
    spec = KernelSpecManager().get_kernel_spec("python3")
    ours = Path(spec.resource_dir).is_relative_to(sys.prefix) and (not os.path.isabs(spec.argv[0]) or Path(spec.argv[0]).is_relative_to(sys.prefix))
    return [] if ours else [f"it is {spec.resource_dir} with {spec.argv[0]}"]


# ---------------------------------------------------------------- corpus, notebooks, steps, use

def snapshot(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def corpus_twice():
    status, printed = call("instrument-mtl", "corpus", "--tier", "mini", timeout=1800)
    if status:
        return failed(status, printed)
    home = Path(os.environ.get("INSTRUMENT_MTL_HOME", ROOT)) / "data"
    before = snapshot(home)
    status, printed = call("instrument-mtl", "corpus", "--tier", "mini")
    changed = [str(p.relative_to(home)) for p, t in snapshot(home).items() if before.get(p) != t]
    return failed(status, printed) or [f"the second call wrote {p}" for p in changed[:20]]


def notebook_tests(name):
    return failed(*call("nbdev_test", "--path", NBS / f"{name}.ipynb", "--n_workers", "0", MPLBACKEND="Agg"))


def strict_json(text):
    "Parsed JSON, in which NaN and Infinity are errors, as the standard says"
    def undefined(x):
        raise ValueError(f"{x} is not JSON")
    return json.loads(text, parse_constant=undefined)


def papermill(name, folder, parameters, timeout=1500):
    "Execute a step from another directory; (exit status, printed, executed notebook's path)"
    out = folder / f"{name}.ipynb"
    options = [o for k, v in {"out_dir": folder / "run", **parameters}.items() for o in ("-p", k, v)]
    return *call("papermill", NBS / f"{name}.ipynb", out, *options, "--no-progress-bar", "--start-timeout", 300, cwd=folder, timeout=timeout), out


def short_run(name):
    "Problems of a step that is executed with tiny parameters: its record must be whole, with tables and figures"
    parameters = {**SMOKE["every step"], **SMOKE.get(name, {})}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        status, printed, out = papermill(name, folder, parameters)
        if status:
            return failed(status, printed)
        problems = []
        for wanted in ("metrics.json", "params.yaml", "model.safetensors", "log.csv"):
            found = list((folder / "run").rglob(wanted))
            if not found:
                problems.append(f"the run left no {wanted}")
            elif wanted == "metrics.json":
                try:
                    problems += [] if strict_json(found[0].read_text(encoding="utf-8")) else ["metrics.json is empty"]
                except ValueError as error:
                    problems.append(f"metrics.json: {error}")
        kinds = {k for c in nbformat.read(out, as_version=4).cells for o in c.get("outputs", []) for k in o.get("data", {})}
        return problems + [f"the executed notebook shows no {k}" for k in ("image/png", "text/html") if k not in kinds]


MISTAKES = {  # name → (parameters, error, what its sentence must contain)
    "misspelt parameter": ({"instrumets": "drums"}, "ParameterError", ["instrumets", "instruments", "epochs"]),
    "unknown instrument": ({"instruments": "drums,kazooo"}, "ParameterError", ["kazooo"]),
    "absent dataset": ({"dataset": "musdb18hq", "data_dir": "/nowhere/musdb18hq"}, "(?:Data|Parameter)Error", ["/nowhere/musdb18hq"]),
    "unknown dataset": ({"dataset": "musdb19"}, "ParameterError", ["musdb19", "musdb18hq"]),
}


def mistake(name, parameters, error, words):
    "Problems unless the step stops with this error, whose sentence holds these words, and leaves nothing behind"
    with tempfile.TemporaryDirectory() as folder:
        status, printed, _ = papermill(name, Path(folder), {**SMOKE["every step"], **parameters}, timeout=600)
        left = [p.relative_to(folder) for p in (Path(folder) / "run").rglob("*") if p.is_file()]
    if status == 0:
        return ["the run went on to the end"]
    if left:
        return [f"a run that was refused leaves {left[0]}"]
    sentences = re.findall(rf"^(?:\w+\.)*{error}: (.*(?:\n(?! *$|\w+Error).*)*)", printed, re.M)
    if not sentences:
        return [f"stopped, but with another error than {error}", *printed.rstrip().splitlines()[-8:]]
    return [f"the sentence does not say {w!r}: {sentences[-1].strip()}" for w in words if w not in sentences[-1]]


def command_line():
    "Problems of `instrument-mtl analyze` on two seconds of stereo at 44.1 kHz"
    with tempfile.TemporaryDirectory() as folder:
        path, rate = Path(folder) / "two seconds.wav", 44100
        with wave.open(str(path), "wb") as f:
            f.setnchannels(2), f.setsampwidth(2), f.setframerate(rate)
            f.writeframes(b"".join(struct.pack("<hh", int(9000 * math.sin(i * .03)), int(9000 * math.sin(i * .2))) for i in range(2 * rate)))
        process = subprocess.run([BIN / "instrument-mtl", "analyze", path, "--format", "json"], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if process.returncode:
            return failed(process.returncode, process.stdout + process.stderr)
        try:
            result = strict_json(process.stdout)
        except ValueError as error:
            return [f"what it prints is no JSON: {error}", process.stdout[:300]]
        missing_file = subprocess.run([BIN / "instrument-mtl", "analyze", "no such file.wav"], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    result = result[0] if isinstance(result, list) else result
    problems = [f"key {k} is missing" for k in ("file", "duration_s", "sample_rate", "model", "instruments") if k not in result]
    for entry in result.get("instruments", [])[:1]:
        problems += [f"instruments[0] has no {k}" for k in ("name", "presence", "level_lu", "level_std_lu", "events", "timbre", "descriptors") if k not in entry]
    problems += [] if result.get("instruments") else ["no instrument in the result"]
    problems += [] if abs(result.get("duration_s", 0) - 2) < .01 else [f"duration_s is {result.get('duration_s')}"]
    if missing_file.returncode == 0 or "Traceback" in missing_file.stderr:
        problems.append("a file that is not there must give a sentence and an exit status that is not 0")
    return problems


def site():
    "Problems of the pages that `make docs` builds, links included"
    with tempfile.TemporaryDirectory() as folder:
        return failed(*call(sys.executable, ROOT / ".ci" / "docs.py", "--out", Path(folder) / "site"))


def browser():
    "Problems of the apps in a real browser"
    status, printed = call(sys.executable, ROOT / ".ci" / "browser.py", timeout=1500)
    if status == 77:
        raise Skipped(printed.strip())
    return failed(status, printed)


def checks():
    "All checks, in the order in which they are run"
    every = list(STRUCTURE)
    every.append(Check("corpus", "corpus mini", "The embedded corpus is prepared; a second call writes nothing", corpus_twice))
    every += [Check("notebooks", name, "The tests in the notebook pass", lambda n=name: notebook_tests(n)) for name in notebooks()]
    for name in steps():
        every.append(Check("steps", name, "A short run is whole: metrics, model, tables, figures", lambda n=name: short_run(n)))
        every += [Check("steps", f"{name}, {what}", "Stops with a sentence that helps", lambda n=name, m=m: mistake(n, *m)) for what, m in MISTAKES.items()
                  if what == "misspelt parameter" or m[0].keys() <= declared_parameters(name)]
    every.append(Check("use", "site", "Every notebook, module and licence has its page, and no link is broken", site))
    every.append(Check("use", "command line", "`instrument-mtl analyze` writes the JSON that is promised, and a sentence for a missing file", command_line))
    every.append(Check("use", "browser", "The apps work in a real browser, served by Voilà and in JupyterLab: faders, sound, files, keys; no console error, nothing from the network", browser))
    return every


def report(check):
    "Run one check and print what came of it; True when it passed, None when it could not be tried"
    start = time.monotonic()
    try:
        problems = check.run()
    except Skipped as why:
        return print(f"SKIP  {check.group} · {check.name}: {check.sentence}\n      {why}", flush=True)
    except Exception as error:
        problems = [f"{type(error).__name__}: {error}"]
    lines = [f"{'FAIL' if problems else 'PASS'}  {check.group} · {check.name}: {check.sentence} ({time.monotonic() - start:.0f} s)"]
    print("\n".join(lines + [f"      {p}" for p in problems]), flush=True)
    return not problems


def main():
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="groups or parts of names")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at the same time, one core each (2)")
    args = parser.parse_args()
    chosen = [c for c in checks() if not args.only or any(o == c.group or o in c.name for o in args.only)]
    if args.list:
        return print("\n".join(f"{c.group} · {c.name}: {c.sentence}" for c in chosen))
    signal.signal(signal.SIGTERM, stop_all), signal.signal(signal.SIGINT, stop_all)
    first = [c for c in chosen if c.group in ("structure", "corpus")]  # the corpus must stand before notebooks and steps use it
    passed = [report(c) for c in first]
    with ThreadPoolExecutor(args.jobs) as pool:
        passed += pool.map(report, [c for c in chosen if c not in first])
    for word, outcome in (("skipped, and not counted", None), ("failed", False)):
        if names := [c.name for c, ok in zip(first + [c for c in chosen if c not in first], passed) if ok is outcome]:
            print(f"\n{word}: " + " · ".join(names))
    print(f"{passed.count(True)} passed, {passed.count(False)} failed", flush=True)
    return 0 if True in passed and False not in passed else 1


if __name__ == "__main__":
    sys.exit(main())
