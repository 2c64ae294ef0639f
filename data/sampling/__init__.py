"""Decide which groups and passages a step sees.

draws.py     positives and negatives of each group: functions of (seed, epoch, position)
mix.py       several data sets in one order
stream.py    groups read from start to end, without an index
in_batch.py  passages of other queries as further negatives
"""

from .draws import Draw, draw_visits
from .in_batch import in_batch_negatives, positives_of_repeated
from .mix import DataSource, Mix, share_groups, sources_of
from .stream import EXAMPLES, Stream, look_ahead
