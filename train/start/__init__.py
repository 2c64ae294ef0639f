"""Prepare a training run.

preflight.py        read and check everything, before the model is loaded
setup.py            load the model; build optimizer, batches, processes
launchers.py        refuse launchers that cannot work
unused_settings.py  warn about settings without effect
"""

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .preflight import Inputs, read_inputs
    from .setup import make_accelerator, make_run
    from .unused_settings import warn_unused
else:
    __getattr__ = lazy(
        __name__,
        preflight="Inputs read_inputs",
        setup="make_accelerator make_run",
        unused_settings="warn_unused",
    )
