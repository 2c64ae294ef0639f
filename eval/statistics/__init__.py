"""Estimate intervals and test differences between systems.

compare.py     paired comparison with the baseline
resampling.py  bootstrap intervals and the permutation test
macro.py       averages over several collections
"""

from .compare import (
    ALPHA,
    compare_all,
    compare_systems,
    contradictions,
    estimate,
    estimates,
    outcome,
    regression,
    verdict,
)
from .macro import macro_compare, macro_estimate
from .resampling import PERMUTATIONS, SAME, paired_differences, paired_test
