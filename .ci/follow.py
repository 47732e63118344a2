"""Print every line that a running step adds to its log.csv, while papermill executes it; `make run` starts this beside papermill.

papermill shows how many cells are done, and the longest cell is the training: its epochs appear here.
Ends when the process whose number is given (make) has ended.
"""
from pathlib import Path
import csv, os, sys, time

ROOT = Path(__file__).resolve().parent.parent
RUNS = Path(os.environ.get("INSTRUMENT_MTL_HOME", ROOT)) / "runs"


def alive(pid):
    try:
        os.kill(pid, 0)
        return True
    except OSError:
        return False


def short(value):
    "A number with four digits, anything else as it is"
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value


def follow(parent, pause_s=1.0):
    begin, printed = time.time(), {}
    while alive(parent):
        for path in RUNS.rglob("log.csv"):
            if path.stat().st_mtime < begin:
                continue
            with open(path, encoding="utf-8", newline="") as f:
                rows = list(csv.DictReader(f))
            for row in rows[printed.get(path, 0):]:
                print("  " + " · ".join(f"{k} {short(v)}" for k, v in row.items() if k and v), file=sys.stderr, flush=True)
            printed[path] = len(rows)
        time.sleep(pause_s)


if __name__ == "__main__":
    follow(int(sys.argv[1]))
