"""Export ONNX graphs and prove them.

graphs.py    every wanted graph
export.py    the model as fp32 graph
quantise.py  int8 and fp16
parity.py    compare a graph with the model: scores, order, measure, speed
"""

from .export import OPSET
from .graphs import NO_GRAPHS, Graphs, add_graphs
from .parity import BATCH, EXACT, TOLERANCE, open_graph
