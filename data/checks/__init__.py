"""Check the data of a run.

splits.py      one pass over a split: counts and findings
leaks.py       queries that two splits share
duplicates.py  repeated rows and passages
similarity.py  near-duplicate texts
characters.py  damaged characters, suspicious lengths
lengths.py     lengths in tokens, and what the budget cuts
"""

from .duplicates import find_contradictions
from .leaks import QueryIndex
from .similarity import pieces_of, text_key, text_similarity
from .splits import CheckedSource, Shared, SourceCounts, check_splits, report_match
