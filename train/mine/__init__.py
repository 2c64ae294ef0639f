"""Mine hard negatives (`uprank mine`).

command.py    the command
search.py     queries, corpus and the search over it
negatives.py  choose negatives among the passages found
output.py     rows written so far, kept across kills
__main__.py   python -m uprank.train.mine
"""

from .command import main
