"""The losses and metrics that `Model.compile` was given, for one output or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradtape as tf
from gradtape import nest
from gradtape.keras import losses, metrics

Names = Callable[[], "list[str] | None"]


def _by_output(given: Any, outputs: Any, names: list[str] | None) -> list[Any]:
    """Arranges what a list or a dictionary by name says like the flat outputs."""
    if isinstance(given, dict):
        keys = sorted(outputs) if isinstance(outputs, dict) else names
        if keys is None:
            raise ValueError("A dictionary by name needs outputs that have names.")
        unknown = set(given) - set(keys)
        if unknown:
            raise ValueError(f"There are no outputs named {sorted(unknown)}; there are {keys}")
        return [given.get(key) for key in keys]
    if isinstance(given, (list, tuple)):
        return list(given)
    return [given] * len(nest.flatten(outputs))


class CompiledLoss:
    """The sum of the losses of all outputs.

    Args:
        loss: A loss, or a list or dictionary of them.
        weights: Factors of the losses in the same structure; ones by default.
        names: Returns the names of several outputs.
    """

    def __init__(self, loss: Any, weights: Any, names: Names) -> None:
        self._given, self._weights, self._names = loss, weights, names
        self._losses: list[losses.Loss | None] | None = None
        # One for each output, if there are several.
        self.metrics: list[metrics.Mean] = []

    def _build(self, y_pred: Any) -> None:
        names = self._names()
        given = _by_output(self._given, y_pred, names)
        count = len(nest.flatten(y_pred))
        if len(given) != count:
            raise ValueError(f"There are {len(given)} losses for {count} outputs.")
        self._losses = [None if loss is None else losses.loss_of(loss) for loss in given]
        self._factors = _by_output(1.0 if self._weights is None else self._weights, y_pred, names)
        if count > 1:
            keys = sorted(y_pred) if isinstance(y_pred, dict) else names
            keys = keys or [f"output_{i}" for i in range(count)]
            self.metrics = [metrics.Mean(name=f"{key}_loss") for key in keys]

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the loss of a batch."""
        if self._losses is None:
            self._build(y_pred)
        assert self._losses is not None
        predictions = nest.flatten(y_pred)
        if len(predictions) == 1:
            assert self._losses[0] is not None
            loss = self._losses[0](nest.flatten(y_true)[0], predictions[0], sample_weight)
            return loss if self._factors[0] == 1.0 else loss * self._factors[0]
        targets = _by_output(y_true, y_pred, self._names())
        weights = _by_output(sample_weight, y_pred, self._names())
        terms = []
        for i, loss_of in enumerate(self._losses):
            if loss_of is not None:
                loss = loss_of(targets[i], predictions[i], weights[i])
                self.metrics[i].update_state(loss, float(predictions[i].shape[0]))
                terms.append(loss if self._factors[i] in (None, 1.0) else loss * self._factors[i])
        return tf.add_n(terms)


class CompiledMetrics:
    """The metrics of all outputs.

    Args:
        given: Metrics, or lists or a dictionary of them for several outputs.
        weighted: Those that take the sample weights.
        names: Returns the names of several outputs.
    """

    def __init__(self, given: Any, weighted: Any, names: Names) -> None:
        self._names = names
        self._given = [(given or [], False), (weighted or [], True)]
        # For each output, pairs of a metric and whether it takes the sample weights.
        self._rows: list[list[tuple[Any, bool]]] | None = None
        self._single = not any(_is_by_output(listed) for listed, _ in self._given)
        if self._single and names() is None:
            # So that names are known before the first batch.
            flat = [(metrics.metric_of(m), w) for listed, w in self._given for m in _list(listed)]
            self._rows = [flat]

    @property
    def metrics(self) -> list[Any]:
        """All metrics."""
        return [metric for row in self._rows or [] for metric, _ in row]

    def _build(self, y_pred: Any) -> None:
        names = self._names()
        count = len(nest.flatten(y_pred))
        self._rows = [[] for _ in range(count)]
        keys = sorted(y_pred) if isinstance(y_pred, dict) else names
        for listed, weighted in self._given:
            if _is_by_output(listed) or count == 1:
                rows = _by_output(listed, y_pred, names) if _is_by_output(listed) else [listed]
            else:
                rows = [listed] * count
            for i, row in enumerate(rows):
                for item in _list(row):
                    metric = metrics.metric_of(item)
                    if count > 1 and keys:
                        metric.name = f"{keys[i]}_{metric.name}"
                    self._rows[i].append((metric, weighted))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes in a batch."""
        if self._rows is None:
            self._build(y_pred)
        assert self._rows is not None
        predictions = nest.flatten(y_pred)
        several = len(predictions) > 1
        targets = _by_output(y_true, y_pred, self._names()) if several else nest.flatten(y_true)
        weights = _by_output(sample_weight, y_pred, self._names())
        for row, target, prediction, weight in zip(
            self._rows, targets, predictions, weights, strict=True
        ):
            for metric, weighted in row:
                metric.update_state(target, prediction, weight if weighted else None)


def _is_by_output(given: Any) -> bool:
    """Says whether metrics are given for each output: by name, or as lists in a list."""
    return isinstance(given, dict) or (
        isinstance(given, (list, tuple)) and any(isinstance(m, (list, tuple)) for m in given)
    )


def _list(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]
