"""Callbacks: what happens between the batches and epochs of training."""

from __future__ import annotations

import csv
import math
import operator
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from gradtape.keras.callbacks.backup import BackupAndRestore
from gradtape.keras.callbacks.base import (
    Callback,
    CallbackList,
    History,
    Logs,
    ProgbarLogger,
)

# Metrics of which more is better.
_UP = ("acc", "auc", "precision", "recall", "f1", "fbeta", "r2", "cosine", "true_")


class _Monitor(Callback):
    """Looks at a loss or metric after each epoch.

    Args:
        monitor: Its name.
        mode: "min", "max", or "auto" to tell by the name.
        min_delta: What counts as an improvement at least.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"Invalid value for argument `mode`: {mode!r}")
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        self.best: Any = None

    def _is_better(self, value: float, than: float | None) -> bool:
        if than is None:
            return True
        name = self.monitor.removeprefix("val_")
        up = self.mode == "max" or (self.mode == "auto" and any(word in name for word in _UP))
        compare = operator.gt if up else operator.lt
        return bool(compare(value - self.min_delta if up else value + self.min_delta, than))

    def _current(self, logs: Any) -> float | None:
        value = (logs or {}).get(self.monitor)
        if value is None:
            warnings.warn(
                f"{type(self).__name__} looks at `{self.monitor}`, which is not available. "
                f"Available are: {', '.join(logs or {})}",
                stacklevel=2,
            )
        return value


class EarlyStopping(_Monitor):
    """Ends training when a loss or metric does not get better any more.

    Args:
        monitor: Its name.
        min_delta: What counts as an improvement at least.
        patience: Epochs to wait for one.
        verbose: Whether to tell.
        mode: "min", "max", or "auto" to tell by the name.
        baseline: What an improvement must be better than.
        restore_best_weights: Whether to go back to the weights of the best epoch.
        start_from_epoch: The first epoch that counts.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch

    def on_train_begin(self, logs: Any = None) -> None:
        """Begins anew."""
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = self.best_weights = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Ends training if it is time."""
        current = self._current(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self._is_better(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._is_better(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Goes back to the best weights."""
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                print(f"Restoring model weights from the end of the best epoch: "
                      f"{self.best_epoch + 1}.")  # fmt: skip
            self.model.set_weights(self.best_weights)


class SwapEMAWeights(Callback):
    """Evaluates and predicts with the moving averages of the weights, which `use_ema` keeps.

    Args:
        swap_on_epoch: Whether the averages are also there at the end of each epoch, for callbacks
            that save the model, until the next one begins.
    """

    def __init__(self, swap_on_epoch: bool = False) -> None:
        self.swap_on_epoch = swap_on_epoch
        # The weights that were trained, while the averages are in their place.
        self._trained: list[Any] | None = None

    def set_model(self, model: Any) -> None:
        """Is told the model."""
        super().set_model(model)
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        if not getattr(optimizer, "use_ema", False):
            raise ValueError("SwapEMAWeights must be used with an optimizer that has use_ema=True.")
        self._optimizer = optimizer

    def _swap_in(self) -> None:
        if self._trained is None and self._optimizer.iterations:
            variables = self.model.trainable_variables
            self._trained = [variable.read_value() for variable in variables]
            self._optimizer.finalize_variable_values(variables)

    def _swap_out(self) -> None:
        if self._trained is not None:
            pairs = zip(self.model.trainable_variables, self._trained, strict=True)
            for variable, value in pairs:
                variable.assign(value)
            self._trained = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Goes on with the weights that were trained."""
        self._swap_out()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Shows the averages, if they are wanted."""
        if self.swap_on_epoch:
            self._swap_in()

    def on_test_begin(self, logs: Any = None) -> None:
        """Shows the averages."""
        self._swap_in()

    def on_test_end(self, logs: Any = None) -> None:
        """Goes back to the weights that were trained."""
        self._swap_out()

    def on_predict_begin(self, logs: Any = None) -> None:
        """Shows the averages."""
        self._swap_in()

    def on_predict_end(self, logs: Any = None) -> None:
        """Goes back to the weights that were trained."""
        self._swap_out()


class ModelCheckpoint(_Monitor):
    """Saves weights after each epoch, or when a loss or metric is better than ever.

    Args:
        filepath: The file, in which `{epoch}` and the names of losses and metrics are replaced.
        monitor: Name of the loss or metric.
        verbose: Whether to tell.
        save_best_only: Whether to save only when it is better than ever.
        save_weights_only: Must be True: models are saved as weights here.
        mode: "min", "max", or "auto" to tell by the name.
        save_freq: "epoch", or a number of batches.
        initial_value_threshold: What the first value must be better than.
    """

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: Any = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if not save_weights_only:
            raise NotImplementedError(
                "ModelCheckpoint saves weights here: give it save_weights_only=True and a file "
                "that ends in .safetensors."
            )
        self.filepath, self.verbose = os.fspath(filepath), verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.save_freq, self.best = save_freq, initial_value_threshold
        self._epoch = self._batches = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remembers the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Saves after a number of batches."""
        self._batches += 1
        if self.save_freq != "epoch" and self._batches % self.save_freq == 0:
            self._save(self._epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves after an epoch."""
        if self.save_freq == "epoch":
            self._save(epoch, logs)

    def _save(self, epoch: int, logs: Any) -> None:
        if self.save_best_only:
            current = self._current(logs)
            if current is None or not self._is_better(current, self.best):
                return
            self.best = current
        path = self.filepath.format(epoch=epoch + 1, **dict((logs or {}).items()))
        if self.verbose:
            print(f"\nEpoch {epoch + 1}: saving model to {path}")
        self.model.save_weights(path)


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch.

    Args:
        schedule: Function of the number of the epoch and the learning rate, which returns another.
        verbose: Whether to tell.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Sets the learning rate."""
        try:
            rate = self.schedule(epoch, float(self.model.optimizer.learning_rate))
        except TypeError:  # Functions of the epoch alone are allowed too.
            rate = self.schedule(epoch)
        self.model.optimizer.learning_rate = float(rate)
        if self.verbose:
            print(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the learning rate to the history."""
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class ReduceLROnPlateau(_Monitor):
    """Lowers the learning rate when a loss or metric does not get better any more.

    Args:
        monitor: Its name.
        factor: Factor of the learning rate.
        patience: Epochs to wait for an improvement.
        verbose: Whether to tell.
        mode: "min", "max", or "auto" to tell by the name.
        min_delta: What counts as an improvement at least.
        cooldown: Epochs to wait after a change before counting again.
        min_lr: The lowest learning rate.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if factor >= 1.0:
            raise ValueError("ReduceLROnPlateau does not support a factor >= 1.0.")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr

    def on_train_begin(self, logs: Any = None) -> None:
        """Begins anew."""
        self.wait = self.cooldown_counter = 0
        self.best = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Lowers the learning rate if it is time."""
        rate = float(self.model.optimizer.learning_rate)
        if logs is not None:
            logs["learning_rate"] = rate
        current = self._current(logs)
        if current is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._is_better(current, self.best):
            self.best, self.wait = current, 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience and rate > self.min_lr:
                lower = max(rate * self.factor, self.min_lr)
                self.model.optimizer.learning_rate = lower
                self.cooldown_counter, self.wait = self.cooldown, 0
                if self.verbose:
                    print(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to "
                          f"{lower}.")  # fmt: skip


class CSVLogger(Callback):
    """Writes losses and metrics of each epoch as a line of a file.

    Args:
        filename: The file.
        separator: What is between the numbers.
        append: Whether to keep what is in the file.
    """

    def __init__(self, filename: Any, separator: str = ",", append: bool = False) -> None:
        self.filename, self.separator, self.append = os.fspath(filename), separator, append
        self._file: Any = None
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Opens the file."""
        kept = self.append and os.path.exists(self.filename) and os.path.getsize(self.filename) > 0
        self._file = open(self.filename, "a" if self.append else "w", newline="")  # noqa: SIM115
        self._header = not kept
        self._writer = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes a line."""
        row = {"epoch": epoch, **dict((logs or {}).items())}
        if self._writer is None:
            names = ["epoch", *sorted(name for name in row if name != "epoch")]
            self._writer = csv.DictWriter(self._file, names, delimiter=self.separator)
            if self._header:
                self._writer.writeheader()
        self._writer.writerow({name: row.get(name, "NA") for name in self._writer.fieldnames})
        self._file.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the file."""
        self._file.close()
        self._file = self._writer = None


class LambdaCallback(Callback):
    """Calls functions instead of methods.

    Args:
        on_epoch_begin: Takes the epoch and logs.
        on_epoch_end: Takes the epoch and logs.
        on_train_begin: Takes logs.
        on_train_end: Takes logs.
        on_train_batch_begin: Takes the batch and logs.
        on_train_batch_end: Takes the batch and logs.
        **kwargs: Any other methods of `Callback`.
    """

    def __init__(
        self,
        on_epoch_begin: Any = None,
        on_epoch_end: Any = None,
        on_train_begin: Any = None,
        on_train_end: Any = None,
        on_train_batch_begin: Any = None,
        on_train_batch_end: Any = None,
        **kwargs: Any,
    ) -> None:
        given = {
            "on_epoch_begin": on_epoch_begin, "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin, "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end, **kwargs,
        }  # fmt: skip
        for name, function in given.items():
            if function is not None:
                setattr(self, name, function)


class TerminateOnNaN(Callback):
    """Ends training when the loss is not finite. Looks after each batch, which waits for it.

    Args:
        raise_error: Whether to raise an error instead.
    """

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks at the loss."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(np.mean(loss)):
            message = f"Batch {batch}: Invalid loss, terminating training"
            if self.raise_error:
                raise RuntimeError(message)
            print(message)
            self.model.stop_training = True


__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "Logs",
    "ModelCheckpoint",
    "ProgbarLogger",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
]
