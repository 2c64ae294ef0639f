"""Establish what is published, from whom, and whether it may be.

source.py      run folder or model folder to one frozen value
licence.py     licence and notices of the weights
gate.py        refuse damage, foreign evidence, regressions
links.py       refuse links out of a folder
dev_scores.py  recompute a report's values from its run files
"""

from .dev_scores import DevScores, Refuted, TrecRun, read_scores, restricted
from .gate import (
    Ruling,
    check_evidence,
    compared,
    damaged_files,
    judge,
    load_undamaged,
    require_better,
    tuned_system,
)
from .licence import Base, copy_notices
from .links import links_out, refuse_links
from .source import Evidence, Source, data_names, distinct_names, read_source
