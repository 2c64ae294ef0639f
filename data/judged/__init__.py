"""Read judgments and runs, and find texts by their ids.

trec.py        qrels and runs as tables
trec_lines.py  their lines, one at a time, with every error
trec_fast.py   large well-formed tables, quickly
beir.py        BEIR folders
by_role.py     training data given as a mapping of files
by_id.py       join judgments, runs or triples with the texts they name
texts.py       a corpus or queries on disk, by id
"""

from .beir import read_beir_collection, read_beir_groups
from .by_role import describe_files, given_files, is_by_role, read_role_groups, read_role_judged
from .trec import TrecRun, read_run, run_file_names, trec_collection, trec_order, write_run
from .trec_lines import LARGEST_RELEVANCE, is_qrels
