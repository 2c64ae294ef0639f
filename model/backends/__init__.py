"""Score with other libraries behind the interface of a Reranker.

peer.py      the interface
load.py      sentence-transformers and FlagEmbedding
onnx.py      ONNX graphs, without torch or transformers
openvino.py  OpenVINO graphs
"""

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .load import backend_problems, hash_config, identity, load_model
    from .onnx import import_onnxruntime, load_onnx
    from .openvino import import_openvino
    from .peer import Peer
else:
    __getattr__ = lazy(
        __name__,
        load="backend_problems hash_config identity load_model",
        onnx="import_onnxruntime load_onnx",
        openvino="import_openvino",
        peer="Peer",
    )
