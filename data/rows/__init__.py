"""Read files of rows and turn the rows into groups.

files.py         any file as rows: picks the reader by the file's name
lines.py         lines of a plain or compressed file
jsonl.py         FlagEmbedding JSONL: query, pos, neg
json_array.py    a JSON file that is one array
csv_tsv.py       CSV and TSV
arrow.py         Parquet and Arrow
hub_datasets.py  hf:// and mteb://
columns.py       recognise a table's columns: query, passages, labels
fields.py        check the values of a row
to_groups.py     rows of any shape to groups
"""

from .csv_tsv import is_triples
from .files import find_files, kind_of_file, looks_like_beir
from .hub_datasets import is_named, iterate_named_groups, read_named_groups, read_named_judged
from .jsonl import as_collection, parse_rows, read_jsonl_rows
from .lines import compression, read_lines
from .to_groups import iterate_tables, tables_of
