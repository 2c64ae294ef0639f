"""Write the published folder.

folder.py      files, written beside and renamed
tokenizer.py   tokenizer files
record.py      uprank.json
paths.py       no absolute path of this machine
json_files.py  read and write JSON
"""

from .folder import building, copy_evidence, file_hashes, files_of, write_head, write_model
from .json_files import write_json
from .paths import Paths
from .record import make_record
