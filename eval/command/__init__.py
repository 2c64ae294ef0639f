"""Carry out the parts of `uprank eval`.

request.py  validate what was asked for, before anything is loaded
models.py   score the candidates with every model
gate.py     fail on a regression
"""

from .gate import gate_findings
from .models import parse_models, score_collections
from .request import CollectionPlan, Request, make_request
