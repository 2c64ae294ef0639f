"""Write the model card.

card.py        the card, from its template
parts.py       results, thresholds, merging, data
metadata.py    YAML header for the hub
statistics.py  counts and samples of the data
training.py    training settings
onnx.py        ONNX graphs
"""

from .card import CURVE, Content, render_card, verdict_words
from .metadata import eval_results
from .parts import calibration_line
from .statistics import find_samples, find_statistics
