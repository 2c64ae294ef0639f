"""Measure the wall time until a command answers, and compare it with the targets.

    python benchmarks/startup.py [--rounds 9] [--json FILE]

Medians of alternating rounds after one warm-up round; a bare interpreter is included.
"""

import functools
import subprocess
import sys
from statistics import median

from common import alternate, make_parser, report, table

COMMANDS: dict[str, tuple[list[str], float | None]] = {  # name to words for Python, and target in seconds
    "python -c pass": (["-c", "pass"], None),
    'python -c "import uprank"': (["-c", "import uprank"], None),
    "uprank --help": (["-m", "uprank", "--help"], 0.5),
    "uprank train --help": (["-m", "uprank", "train", "--help"], None),
    "uprank eval --help": (["-m", "uprank", "eval", "--help"], None),
}
IMPORT = "import time; begun = time.perf_counter(); import uprank; print(time.perf_counter() - begun)"
IMPORT_TARGET = 0.1


def run(words: list[str]) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"failed: {' '.join(words)}\n{done.stderr}")
    return done.stdout


def main() -> None:
    parser = make_parser(__doc__, model=False)
    parser.set_defaults(rounds=9)
    given = parser.parse_args()
    runs = {name: functools.partial(run, words) for name, (words, _) in COMMANDS.items()}
    seconds = alternate(runs, given.rounds)
    rows = []
    for name, (_, target) in COMMANDS.items():
        counted = seconds[name][1:]
        rows.append([name, median(counted), min(counted), max(counted), target])
    imports = [float(run(["-c", IMPORT])) for _ in range(given.rounds + 1)][1:]
    rows.append(
        [
            "the import alone, without the interpreter",
            median(imports),
            min(imports),
            max(imports),
            IMPORT_TARGET,
        ]
    )
    header = ["command", "seconds (median)", "least", "most", "target"]
    results = {row[0]: {"seconds": row[1], "target": row[4]} for row in rows}
    report(given, {"Start-up": table(header, rows)}, results)


if __name__ == "__main__":
    main()
