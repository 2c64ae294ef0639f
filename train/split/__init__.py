"""Part judged queries into train, dev and test.

command.py     `uprank split`: read, part, write
components.py  which queries belong together, and to which split
__main__.py    python -m uprank.train.split
"""

from .command import main
