"""Mutate many rows in every format, like tests/data/rows/test_fuzz.py with a few.

python benchmarks/fuzz_data.py --rows 20000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="least number of rows to mutate")
    given = parser.parse_args()
    test = Path(__file__).parent.parent / "tests" / "data" / "rows" / "test_fuzz.py"
    begin = time.perf_counter()
    code = subprocess.call(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(test)],
        env={**os.environ, "UPRANK_FUZZ_ROWS": str(given.rows)},
        cwd=test.parents[3],
    )
    print(f"{time.perf_counter() - begin:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
