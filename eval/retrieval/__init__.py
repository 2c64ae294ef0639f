"""Find the candidates that every system ranks.

candidates.py  candidates of each query: BM25, a run, groups, judged
bm25.py        BM25
dense.py       exact search over embeddings
embeddings.py  embed texts with a bi-encoder; keep the vectors
fusion.py      reciprocal rank fusion
"""

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .bm25 import BM25Index
    from .candidates import (
        OWN,
        SEARCHED,
        Candidates,
        find_candidates,
        first_stage_name,
        own_documents,
        resolve_source,
        without_own,
    )
    from .dense import DenseIndex
    from .embeddings import BiEncoder, load_bi_encoder, locate_bi_encoder
    from .fusion import LEAST_DEPTH, reciprocal_rank_fusion
else:
    __getattr__ = lazy(
        __name__,
        bm25="BM25Index",
        candidates="Candidates OWN SEARCHED find_candidates first_stage_name own_documents resolve_source without_own",
        dense="DenseIndex",
        embeddings="BiEncoder load_bi_encoder locate_bi_encoder",
        fusion="LEAST_DEPTH reciprocal_rank_fusion",
    )
