"""Compute scores from a packed batch.

scorer.py     choose the forward pass: fused, packed or padded
packing.py    lay sequences end to end; plan which go together
packed.py     the padding-free forward of BERT and (XLM-)RoBERTa
attention.py  attention within each sequence of a packed batch
fused.py      the forward for scoring on a CPU
linear.py     linear layers and the word table in training
dropout.py    dropout as a function of (sequence, place in the network)
streams.py    several streams of work on one CPU
"""

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .dropout import mix_bits
    from .packed import method_of_layer
    from .packing import GRAIN, PackedBatch, pack, plan_by_length, plan_groups, share_out, split_batch, suitable_tokens  # fmt: skip
    from .scorer import Scorer, padded_logits, takes_token_types
    from .streams import count_streams, run_in_streams
else:
    __getattr__ = lazy(
        __name__,
        dropout="mix_bits",
        packed="method_of_layer",
        packing="GRAIN PackedBatch pack plan_by_length plan_groups share_out split_batch suitable_tokens",
        scorer="Scorer padded_logits takes_token_types",
        streams="count_streams run_in_streams",
    )
