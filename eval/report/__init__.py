"""Write and show the results of an evaluation.

terminal.py   on the terminal
page.py       report.html of a report and of a summary
charts.py     charts of differences, queries, depths, scores and training
drawing.py    primitives of the charts: axes, marks, lines
tables.py     tables of a report and of a summary
table.py      one table as Markdown, as LaTeX and on a terminal
sentences.py  verdicts, audits and notes in words
summary.py    several collections beside each other
write.py      every file of an output folder
output.py     reserve an output folder; know an unfinished one
schema.py     JSON schema of report.json and summary.json
"""

from .output import require_new, reserved
from .sentences import LEVELS, notes
from .summary import make_summary
from .terminal import print_report, print_summary
from .write import write_report, write_summary
