"""Compute the loss of groups of scores.

losses.py     each loss: scores, labels and offsets in, one number a group out
objective.py  the weighted sum of losses that the settings name
padded.py     ragged groups as a padded array
"""

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .objective import data_problems, group_losses
else:
    __getattr__ = lazy(
        __name__,
        objective="data_problems group_losses",
    )
