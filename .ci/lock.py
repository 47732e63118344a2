"""Write .ci/constraints.txt: the exact version of every package that settings.ini needs, as installed in this environment.

    make lock        after a deliberate upgrade, in an environment where `make test` passes

`pip` then installs the same set everywhere. Unpinned it resolves a set that fails at import (nbdev 2 needs fastcore 1, execnb 0.1, ghapi 1).
Packages for one platform only (nvidia-*, triton) do no harm elsewhere: a constraint counts only for what is installed.
"""
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
import sys

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
ALWAYS = ["pip", "setuptools", "wheel", "tinysoundfont"]  # what the Makefile installs by itself
HEADER = """\
# The set of versions that fit together (Python 3.11), written by `make lock`; settings.ini says what is wanted.
# tinysoundfont is installed with --no-deps (Makefile): it asks for PyAudio, which needs a compiler and is not used here.
"""


def wanted():
    "Requirement strings of settings.ini"
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    cfg = config["DEFAULT"]
    return [r for key in ("requirements", "dev_requirements", "psds_requirements", "onnx_requirements") for r in cfg[key].split()]


def closure(requirements):
    "Every installed distribution that the requirements need, directly or through others: {(name, version)}"
    found, missing, todo = {}, set(), [(Requirement(r), "") for r in requirements]
    seen = set()
    while todo:
        req, extra = todo.pop()
        if req.marker and not req.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(req.name)
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            missing.add(name)
            continue
        found[name] = dist.version
        for wanted_extra in ("", *req.extras):
            if (name, wanted_extra) not in seen:
                seen.add((name, wanted_extra))
                todo += [(Requirement(r), wanted_extra) for r in dist.requires or []]
    return found, missing


if __name__ == "__main__":
    found, missing = closure(wanted())
    for name in ALWAYS:
        try:
            found[name] = distribution(name).version
        except PackageNotFoundError:
            missing.add(name)
    if missing:
        sys.exit(f"Not installed here, so they cannot be pinned: {', '.join(sorted(missing))}. Run `make setup` first.")
    lines = [f"{name}=={version}" for name, version in sorted(found.items())]
    (ROOT / ".ci" / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} versions written to .ci/constraints.txt")
