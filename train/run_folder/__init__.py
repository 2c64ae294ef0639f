"""Read and write the run folder.

manifest.py     versions, settings, hashes; may the run be continued?
checkpoints.py  write, check and load checkpoints
metrics.py      metrics.jsonl
rank_zero.py    write on rank 0, every rank waits
"""

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .checkpoints import Progress, changed_best, damage, gather_states, load_checkpoint, newest_checkpoint, note_best, save_checkpoint  # fmt: skip
    from .manifest import MAY_CHANGE, differences, environment, flat, lock, now, prepare_folder, read_manifest, read_settings, write_manifest, write_start  # fmt: skip
    from .metrics import MetricsFile, read_metrics
    from .rank_zero import on_first
else:
    __getattr__ = lazy(
        __name__,
        checkpoints="Progress changed_best damage gather_states load_checkpoint newest_checkpoint note_best save_checkpoint",
        manifest="MAY_CHANGE differences environment flat lock now prepare_folder read_manifest read_settings write_manifest write_start",
        metrics="MetricsFile read_metrics",
        rank_zero="on_first",
    )
