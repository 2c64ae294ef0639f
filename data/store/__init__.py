"""Keep data on disk between runs.

atomic.py       file writes that no kill can spoil, and an append log
cache.py        folders named by their content, built once
mapped.py       memory-mapped files
keyed_store.py  values by the hash of a key: token ids of texts, texts of ids
group_store.py  groups
group_by.py     bring rows of one key together in bounded memory
"""

from .atomic import AppendLog, put_back, whole_lines, write_file, write_folder, writing
from .cache import CacheEntry, Facts, find_entry, hash_file, make_entry, watch
from .group_by import merged
from .group_store import GroupStore, chunks, fingerprint_of, keep_groups
from .keyed_store import HASHES, SPANS, KeyedStore, hash_text, hash_texts, sort_keys
