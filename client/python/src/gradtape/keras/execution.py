"""How a model runs its steps: as functions that the server runs by itself, or as they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import gradtape as tf

_HINT = (
    "The model's step is traced as a function. `compile(run_eagerly=True)` runs it as it is, "
    "command by command."
)


class Execution:
    """Runs one kind of step on batches: one command for each execution.

    The first execution runs as it is, since it may make what the model lacks: weights, metrics,
    generators. It is traced after that, once for each kind of batches.

    Args:
        step: From a batch to what is known after it.
        eagerly: Whether it is never traced.
        depends: What the trace depends on besides the batches; `fits` compares it.
    """

    def __init__(self, step: Callable[[Any], Any], eagerly: bool, depends: Any) -> None:
        self._step = step
        self._depends = depends
        self._function = None if eagerly else tf.function(self._run)
        self._built = False

    def fits(self, depends: Any) -> bool:
        """Says whether a trace for this would be the same."""
        return bool(self._depends == depends)

    def __call__(self, batches: Sequence[Any]) -> Any:
        """Does the step on each batch, in order, and returns what the last one returned."""
        if self._function is None or not self._built:
            result = self._run(tuple(batches))
            self._built = True
            return result
        try:
            return self._function(tuple(batches))
        except (tf.errors.OperatorNotAllowedInGraphError, NotImplementedError) as error:
            raise type(error)(f"{error} {_HINT}") from error

    def _run(self, batches: tuple[Any, ...]) -> Any:
        result = None
        for batch in batches:
            result = self._step(batch)
        return result


def executions(batches: Iterable[Any], size: int) -> Iterator[tuple[int, int, list[Any]]]:
    """Groups batches: the numbers of the first and the last one, and the batches."""
    numbered = enumerate(batches)
    while group := list(itertools.islice(numbered, size)):
        yield group[0][0], group[-1][0], [batch for _, batch in group]
