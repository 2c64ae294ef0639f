"""Keep data on disk between runs.

cache.py        folders named by their content, built once
mapped.py       memory-mapped files
group_store.py  groups
token_store.py  token ids
group_by.py     bring rows of one key together in bounded memory
"""

from .cache import CacheEntry, Facts, find_entry, hash_file, make_entry
from .group_by import merged
from .group_store import GroupStore, chunks, fingerprint_of, hash_text, hash_texts, keep_groups
from .mapped import MappedFile
from .token_store import HASHES, SPANS, TOKENS, TokenStore
