"""How a model runs its steps: as functions that the server runs by itself, or as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import gradtape as tf
from gradtape import _context
from gradtape._trace_key import key_of
from gradtape.experimental.loop import repeat
from gradtape.keras.examples import Examples, Part, arrange

_HINT = (
    "The model's step is traced as a function. `compile(run_eagerly=True)` runs it as it is, "
    "command by command."
)


class Execution:
    """Runs one kind of step on batches: one command for each execution.

    The first step runs as it is, since it may make what the model lacks: weights, metrics,
    generators. It is traced after that, once for each kind of batches.

    Args:
        step: From a batch to what is known after it.
        eagerly: Whether it is never traced.
        depends: What the trace depends on besides the batches; `fits` compares it.
    """

    def __init__(self, step: Callable[[Any], Any], eagerly: bool, depends: Any) -> None:
        self._step = step
        self._depends = depends
        self._eagerly = eagerly
        self._built = False
        self._unrolled = tf.function(self._run)
        # Of one step, by the structure of a batch; each has been called.
        self._steps: dict[Hashable, Any] = {}

    def fits(self, depends: Any) -> bool:
        """Says whether a trace for this would be the same."""
        return bool(self._depends == depends)

    def __call__(self, batches: Sequence[Any] | Part) -> Any:
        """Does the step on each batch, in order, and returns what the last one returned.

        Batches in a list are traced as one function, and those of examples on the server are gone
        through by a loop there.
        """
        eagerly = self._eagerly or tf.config.functions_run_eagerly()
        if eagerly or not (self._built or isinstance(batches, Part)):
            result = self._run(batches)
            self._built = True
            return result
        with _hinting():
            if isinstance(batches, Part):
                return self._loop(batches)
            return self._unrolled(tuple(batches))

    def _run(self, batches: Sequence[Any] | Part) -> Any:
        result = None
        for batch in batches:
            result = self._step(batch)
        return result

    def _loop(self, part: Part) -> Any:
        examples, first = part.examples, 0
        if not self._built:
            result = self._step(next(iter(part)))
            self._built = True
            first = 1
        key = key_of(examples.structure)
        if key not in self._steps and first < part.count:
            # A loop cannot make anything, and a function can in its first call.
            step = self._steps[key] = self._of_tensors(examples)
            result = step(*part.tensors(first, first + 1))
            first += 1
        # The last batch may be smaller than the others.
        for end in (*range(first, part.whole, examples.most_batches), part.whole, part.count):
            if first < end:
                tensors, step = part.tensors(first, end), self._steps[key]
                if end - first > 1:
                    result = repeat(step, end - first, tensors, examples.batch_size)
                else:
                    result = step(*tensors)
                first = end
        return result

    def _of_tensors(self, examples: Examples) -> Any:
        """Returns the step as a function of the tensors of a batch."""
        step, structure = self._step, examples.structure
        return tf.function(lambda *tensors: step(arrange(structure, tensors)))


@contextlib.contextmanager
def _hinting() -> Iterator[None]:
    """Says in an error about tracing how to do without it."""
    try:
        yield
    except (tf.errors.OperatorNotAllowedInGraphError, NotImplementedError) as error:
        raise type(error)(f"{error} {_HINT}") from error


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Makes Ctrl-C stop what the server still does of a training, also while nobody waits."""
    session = _context.session()
    try:
        yield
    except KeyboardInterrupt:
        session.cancel()
        raise
