"""Encode pairs of texts as the model's own tokenizer does.

pairs.py        query and passage to token ids, within the budgets
token_cache.py  token ids kept on disk, each text tokenised once
"""

from .pairs import FlatPairs, PairEncoder, choose_budgets
from .token_cache import prepare_groups, prepare_texts
