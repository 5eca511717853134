"""What training tells, and those who listen: callbacks, their list, histories and progress."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from typing import Any

from gradtape.keras import utils
from gradtape.tensor import Value


class Logs(dict[str, Any]):
    """Losses and metrics by name, which are fetched from the server when somebody looks."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if isinstance(value, Value):
            array = value.numpy()
            value = float(array) if array.ndim == 0 else array
            self[name] = value
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """Returns what a name has."""
        return self[name] if name in self else default  # noqa: SIM401 - it would call this

    def values(self) -> Any:
        """Returns all numbers."""
        return [self[name] for name in self]

    def items(self) -> Any:
        """Returns all names and numbers."""
        return [(name, self[name]) for name in self]

    def copy(self) -> dict[str, Any]:
        """Returns a dictionary of the numbers."""
        return dict(self.items())


class Callback:
    """The base of all callbacks: methods that training calls; here they do nothing."""

    params: dict[str, Any]
    _model: Any = None

    @property
    def model(self) -> Any:
        """The model that is trained."""
        return self._model

    def set_model(self, model: Any) -> None:
        """Is told the model."""
        self._model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Is told `verbose`, `epochs` and `steps`."""
        self.params = params

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Is called by `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """Is called by `on_train_batch_end`."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Is called before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Is called after an epoch, with losses and metrics."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Is called before a batch."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Is called after a batch. Looking into the logs waits for the server."""
        self.on_batch_end(batch, logs)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Is called before a batch is evaluated."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Is called after a batch was evaluated."""

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Is called before a batch is predicted from."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Is called after a batch was predicted from."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Is called before training."""

    def on_train_end(self, logs: Any = None) -> None:
        """Is called after training."""

    def on_test_begin(self, logs: Any = None) -> None:
        """Is called before evaluation."""

    def on_test_end(self, logs: Any = None) -> None:
        """Is called after evaluation."""

    def on_predict_begin(self, logs: Any = None) -> None:
        """Is called before prediction."""

    def on_predict_end(self, logs: Any = None) -> None:
        """Is called after prediction."""


class History(Callback):
    """Keeps losses and metrics of all epochs: what `fit` returns.

    Attributes:
        epoch: The numbers of the epochs.
        history: For each loss and metric the list of its values.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[Any]] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Begins anew."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keeps losses and metrics."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        self.model.history = self


class ProgbarLogger(Callback):
    """Draws a bar for each epoch, or writes a line."""

    _bar: utils.Progbar | None = None

    def _start(self) -> None:
        self._seen = 0
        self._bar = None
        if self.params["verbose"]:
            self._bar = utils.Progbar(self.params["steps"], verbose=self.params["verbose"])

    def _advance(self, batch: int, logs: Any) -> None:
        self._seen = batch + 1
        if self._bar is not None and self._bar.is_due():
            self._bar.update(self._seen, list((logs or {}).items()), finalize=False)

    def _finish(self, logs: Any) -> None:
        if self._bar is not None:
            self._bar.target = self._bar.target or self._seen
            self._bar.update(self._seen, list((logs or {}).items()), finalize=True)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Writes the number of the epoch."""
        if self.params["verbose"] and self.params["epochs"] > 1:
            print(f"Epoch {epoch + 1}/{self.params['epochs']}")
        self._start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Draws the bar."""
        self._advance(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Ends the line."""
        self._finish(logs)

    def on_test_begin(self, logs: Any = None) -> None:
        """Begins a bar."""
        self._start()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Draws the bar."""
        self._advance(batch, logs)

    def on_test_end(self, logs: Any = None) -> None:
        """Ends the line."""
        self._finish(logs)

    def on_predict_begin(self, logs: Any = None) -> None:
        """Begins a bar."""
        self._start()

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Draws the bar."""
        self._advance(batch, logs)

    def on_predict_end(self, logs: Any = None) -> None:
        """Ends the line."""
        self._finish(logs)


class CallbackList:
    """Several callbacks as one.

    Args:
        callbacks: The callbacks.
        add_history: Whether to keep a `History`.
        add_progbar: Whether to show the progress.
        model: The model that is trained.
        **params: What callbacks are told: `verbose`, `epochs` and `steps`.
    """

    def __init__(
        self,
        callbacks: Any = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params: Any,
    ) -> None:
        if isinstance(callbacks, CallbackList):
            callbacks = callbacks.callbacks
        given = [] if callbacks is None else callbacks
        self.callbacks: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
        if params.get("verbose") == "auto":
            params["verbose"] = 1 if sys.stdout.isatty() else 2
        if add_progbar and params.get("verbose"):
            self.callbacks.append(ProgbarLogger())
        self.history = next((c for c in self.callbacks if isinstance(c, History)), None)
        if add_history and self.history is None:
            self.history = History()
            self.callbacks.append(self.history)
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(params)

    def without_progress(self) -> CallbackList:
        """Returns the same callbacks but for those that draw: for validation while training."""
        other = copy.copy(self)
        other.callbacks = [c for c in self.callbacks if not isinstance(c, ProgbarLogger)]
        return other

    def __iter__(self) -> Iterator[Any]:
        return iter(self.callbacks)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(name)

        def tell(*args: Any, logs: Any = None) -> None:
            for callback in self.callbacks:
                getattr(callback, name)(*args, {} if logs is None else logs)

        return tell
