"""Merge tuned weights with the base.

merge.py        choose the mixture on dev, watch the guards
mixtures.py     the mixtures tried, and the rule that picks one
interpolate.py  average weights, tensor by tensor
chart.py        the curve over the weight as SVG
"""

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .chart import merging_curve
    from .merge import merge_weights
    from .mixtures import Merged, Point, describe_mixture
else:
    __getattr__ = lazy(
        __name__,
        chart="merging_curve",
        merge="merge_weights",
        mixtures="Merged Point describe_mixture",
    )
