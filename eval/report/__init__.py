"""Write and show what an evaluation found.

terminal.py         on the terminal
tables.py           Markdown and LaTeX tables
sentences.py        verdicts and alarms in words
page.py             report.html and summary.html
charts.py           chart geometry: forest, scatter, bars
score_charts.py     charts of scores: depth, histogram, calibration
training_charts.py  charts of a training run
summary.py          several collections beside each other
write.py            every file of an output folder
schema.py           JSON schema of report.json and summary.json
"""

from .page import write_summary_page
from .sentences import notes
from .summary import make_summary
from .terminal import print_report, print_summary
from .write import require_new, write_report, write_summary
