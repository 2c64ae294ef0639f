"""Prove that other libraries give the same scores.

libraries.py  transformers, sentence-transformers, FlagEmbedding
probes.py     the pairs that are compared
"""

from .libraries import Proof, compare_libraries, describe_proof, prove
from .probes import RECORDED, Pair, equally_cut_query, own_pairs, recorded
