"""Read and write the run folder.

manifest.py     versions, settings, hashes; may the run be continued?
checkpoints.py  write, check and load checkpoints
metrics.py      metrics.jsonl
atomic.py       file writes that no kill can spoil
"""

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .atomic import on_first, put_back, write_file, write_folder, writing
    from .checkpoints import Progress, damage, gather_states, load_checkpoint, newest_checkpoint, save_checkpoint  # fmt: skip
    from .manifest import MAY_CHANGE, differences, environment, flat, lock, now, prepare_folder, read_manifest, write_manifest, write_start  # fmt: skip
    from .metrics import MetricsFile, read_metrics
else:
    __getattr__ = lazy(
        __name__,
        atomic="on_first put_back write_file write_folder writing",
        checkpoints="Progress damage gather_states load_checkpoint newest_checkpoint save_checkpoint",
        manifest="MAY_CHANGE differences environment flat lock now prepare_folder read_manifest write_manifest write_start",
        metrics="MetricsFile read_metrics",
    )
