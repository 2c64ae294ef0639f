"""Prepare the weights that are published.

prepare.py    calibrate, round, prove each step
calibrate.py  fit scale and shift of the score
lineage.py    the steps from measured to published weights
"""

from .calibrate import Calibrated
from .lineage import HEAD, TOLERANCES, chain_problems, remade_problems, torch_type
from .prepare import Prepared, prepare_weights
