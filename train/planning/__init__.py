"""Estimate a run before it starts (`plan=true`).

plan.py  count tokens, padding and bytes; measure a few steps; extrapolate
text.py  print the plan
"""

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .plan import Machine, make_plan
    from .text import print_plan
else:
    __getattr__ = lazy(
        __name__,
        plan="Machine make_plan",
        text="print_plan",
    )
