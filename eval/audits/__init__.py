"""Check whether the figures of a report can be trusted.

scores.py       one system's scores: ties, collapse, order, speed
system.py       run the audits of a system
data.py         data and candidates: recall, unjudged documents, leaks
calibration.py  histogram and calibration of the scores
depths.py       the measure as fewer candidates are reranked
hardware.py     name of the machine
"""

from .calibration import calibration_of, histogram, sigmoid
from .data import added_text, find_leaks, own_documents, sample_text, stated
from .depths import curve_depths, depth_curve, first_stage
from .hardware import hardware_name
from .scores import stated_of
from .system import Setting, audit_system
