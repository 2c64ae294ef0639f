"""Uprank: fine-tune a reranker, prove that it ranks better, publish it.

>>> from uprank import Reranker  # doctest: +SKIP
>>> Reranker.load("runs/mine/best").rerank("what is bm25?", documents, top_k=10)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model.reranker import Reranker

__version__ = "0.1.0"
__all__ = ["Reranker", "__version__"]


def __getattr__(name: str) -> Any:
    """Import torch and transformers only when the reranker is asked for."""
    if name == "Reranker":
        from .model.reranker import Reranker

        return Reranker
    raise AttributeError(f"module 'uprank' has no attribute {name!r}")
