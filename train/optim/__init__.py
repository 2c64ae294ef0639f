"""Update weights.

optimizer.py   AdamW and others; the learning-rate schedule
ema.py         exponential moving average of the weights
freeze.py      parameters left unchanged
loss_scale.py  loss scaling for fp16
fsdp.py        shard weights, gradients and moments over the processes
"""

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .ema import swap_average, update_average
    from .freeze import freeze_parameters
    from .fsdp import YES, empty, exchange, full, is_wanted, restore_weights, shard, sharding_problems
    from .loss_scale import LossScale
    from .optimizer import make_optimizer, optimizer_state, rate_factor, restore_optimizer, set_rate
else:
    __getattr__ = lazy(
        __name__,
        ema="swap_average update_average",
        freeze="freeze_parameters",
        fsdp="YES empty exchange full is_wanted restore_weights shard sharding_problems",
        loss_scale="LossScale",
        optimizer="make_optimizer optimizer_state rate_factor restore_optimizer set_rate",
    )
