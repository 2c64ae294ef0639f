"""Write the model card.

card.py        its content and results rows; fills the template
text.py        rows of mixtures, texts of snippets
metadata.py    YAML header for the hub
data.py        counts and samples of the data
training.py    training settings
"""

from .card import CURVE, Content, render_card, verdict_words
from .data import find_samples, find_statistics
from .metadata import eval_results
from .text import calibration_line
