"""Mutate many rows in every format and shape, as tests/data/test_fuzz.py does with a few.

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
    parser.add_argument("--rows", type=int, default=20_000, help="rows to mutate at least")
    given = parser.parse_args()
    test = Path(__file__).parent.parent / "tests" / "data" / "test_fuzz.py"
    begin = time.perf_counter()
    code = subprocess.call(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(test)],
        env={**os.environ, "UPRANK_FUZZ_ROWS": str(given.rows)},
        cwd=test.parent.parent.parent,
    )
    print(f"{time.perf_counter() - begin:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
