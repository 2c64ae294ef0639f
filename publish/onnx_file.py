"""An ONNX file with one large tensor, written without holding a copy of it.

`onnx.save` builds the whole file in memory beside the message, so that a word table of 770 MB would be there
three times. An ONNX file is a protobuf message: what is before the tensor, the tensor, nothing more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Numbers of the fields in onnx.proto; all three have the wire type 2: a length, then so many bytes.
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9


def save_with(model: Any, name: str, values: np.ndarray, file: Path) -> None:
    """Write a model with the initializer of that name replaced by an array.

    Args:
        model: ModelProto whose graph has the initializer, of any shape; it is emptied.
        name: of the initializer.
        values: float32, in the memory of whoever holds it.
        file: to write.
    """
    import numpy as np
    from onnx import TensorProto

    graph = model.graph
    graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == name))
    before = graph.SerializeToString()
    model.ClearField("graph")
    values = np.ascontiguousarray(values, dtype="<f4")
    about = TensorProto(dims=values.shape, data_type=TensorProto.FLOAT, name=name).SerializeToString()
    about += _header(RAW_DATA, values.nbytes)
    tensor = _header(INITIALIZER, len(about) + values.nbytes) + about
    with file.open("wb") as stream:
        stream.write(model.SerializeToString())
        stream.write(_header(GRAPH, len(before) + len(tensor) + values.nbytes))
        stream.write(before)
        stream.write(tensor)
        stream.write(values.data.cast("B"))


def _header(field: int, length: int) -> bytes:
    """Tag and length of a field as protobuf writes them: seven bits a byte, the lowest first.

    >>> _header(7, 300).hex()
    '3aac02'
    """
    out, rest = bytearray([field << 3 | 2]), length
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*out, rest])
