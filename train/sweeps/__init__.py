"""Compare runs (`uprank runs`, `uprank train -m`).

runs.py   the command `uprank runs`
sweep.py  jobs of a sweep and their table
rows.py   a folder of runs, one row a run
table.py  the table that both print
luck.py   how much the best of many runs owes to chance
"""

from .sweep import best_value, finished, print_results
