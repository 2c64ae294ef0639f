"""Export ONNX graphs and prove them.

graphs.py     every graph that was asked for
export.py     the model as fp32 graph
quantise.py   int8 and fp16
parity.py     compare a graph with the model
reference.py  the model's own scores and times
"""

from .export import OPSET
from .graphs import NO_GRAPHS, Graphs, add_graphs
from .parity import EXACT, TOLERANCE, GraphProof, open_graph
from .reference import BATCH
