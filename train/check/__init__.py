"""Check data before a run (`uprank check`).

command.py      the command
report.py       its report as tables and JSON
label_noise.py  negatives that a model ranks over a positive
__main__.py     python -m uprank.train.check
"""

from .command import check_before_training, main
