"""Prove a published folder again (`uprank verify`).

command.py  the command
folder.py   files and scores
record.py   uprank.json
card.py     the card against its reports
"""

from .command import main
