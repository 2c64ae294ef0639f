"""Rank documents and measure rankings, as trec_eval does.

measure.py    `nDCG@10`: from name to value and back
ranking.py    the one ranking, with its tie rule, that every measure reads
ndcg.py       nDCG
mrr.py        MRR
map.py        MAP
recall.py     R
precision.py  P
success.py    Success
judged.py     Judged
bpref.py      bpref
rprec.py      Rprec
ties.py       how far equal scores leave a measure open
"""

from .judged import judged_share
from .measure import Measure, evaluate_measures, parse_measures
from .ranking import Bools, Floats, Ints, Ranking, all_equal, backwards, ideal, rank
from .ties import tie_bounds
