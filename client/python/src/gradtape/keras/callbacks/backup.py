"""The callback that lets training go on where it was interrupted."""

from __future__ import annotations

import os
import posixpath
from typing import Any

from gradtape import checkpoints, errors
from gradtape.keras.callbacks.base import Callback
from gradtape.train import server_name

_EPOCH = "epoch"


class BackupAndRestore(Callback):
    """Saves weights and optimizer on the server during `fit`, and begins there if it runs again.

    The model must be built before `fit` can restore it. What is saved within an epoch goes on at
    the beginning of that epoch, with the weights of the moment.

    Args:
        backup_dir: A path for the checkpoint, which this callback has for itself.
        save_freq: "epoch", a number of batches, or False to save only on request.
        double_checkpoint: Ignored: a checkpoint is replaced at once or not at all.
        delete_checkpoint: Whether the checkpoint is deleted when `fit` is through.
    """

    def __init__(
        self,
        backup_dir: Any,
        save_freq: Any = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        if save_freq != "epoch" and (isinstance(save_freq, str) or int(save_freq) < 0):
            raise ValueError(
                "Invalid value for argument `save_freq`. Received: "
                f"save_freq={save_freq}. Expected either 'epoch' or an integer value."
            )
        self.backup_dir = os.fspath(backup_dir)
        self.save_freq, self.delete_checkpoint = save_freq, delete_checkpoint
        self._name = server_name(posixpath.join(self.backup_dir, "backup"))
        self._epoch = self._batches = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Restores what an interrupted training saved."""
        try:
            checkpoints.describe(self._name)
        except errors.NotFoundError:
            return
        metadata = checkpoints.restore(self._name, {"model": self.model})
        self.model._initial_epoch = int(metadata[_EPOCH])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remembers the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Saves after a number of batches."""
        self._batches += 1
        if self.save_freq not in ("epoch", False, 0) and self._batches % self.save_freq == 0:
            self._save(self._epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves after an epoch."""
        if self.save_freq == "epoch":
            self._save(epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        """Deletes what is no longer needed."""
        if self.delete_checkpoint:
            try:
                checkpoints.delete(self._name)
            except errors.NotFoundError:
                return

    def _save(self, epoch: int) -> None:
        metadata = {_EPOCH: epoch}
        checkpoints.save(self._name, {"model": self.model}, metadata=metadata, overwrite=True)
