"""Judged: share of the top of the ranking that was judged.

    Judged@k = judged documents at ranks <= k / min(k, documents retrieved)

Low values say that the other measures rest on few judgments. A negative judgment counts as none.

MacAvaney, Macdonald and Ounis 2022, Streamlining evaluation with ir-measures, ECIR.
"""

from __future__ import annotations

import numpy as np

from .ranking import Floats, Ranking, ratio


def judged_share(ranking: Ranking, cutoff: int) -> Floats:
    """Return (Q,) judged share of the top of each query; 0 for a query without candidates."""
    return ratio(ranking.judged(cutoff).sum(axis=1), np.minimum(ranking.lengths, cutoff))
