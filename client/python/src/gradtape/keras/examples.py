"""Examples that stay on the server while a model goes through them, and parts of them.

An epoch then sends only their order. A part is as many batches as one execution has: its rows are
gathered on the server, where a loop goes through them (`execution.py`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import gradtape as tf
from gradtape import _context, nest

# Of the session's memory, examples that stay may take one part of so many.
_SHARE = 4
# Bytes of rows that are gathered at once: they are there a second time, and then a third.
_MOST_GATHERED = 32 << 20


def fit_in_session(size: int) -> bool:
    """Says whether arrays of so many bytes may stay in the session."""
    return size <= _context.session().most_bytes // _SHARE


class Examples:
    """Inputs, targets and weights on the server.

    Args:
        data: A nest of tensors, and of None, whose first axes are the examples.
        batch_size: Examples in a batch; the last one may have fewer.
    """

    def __init__(self, data: Any, batch_size: int) -> None:
        self.batch_size = batch_size
        leaves = nest.flatten(data)
        self._tensors = [leaf for leaf in leaves if leaf is not None]
        # The nest with the number of each tensor in its place.
        numbers = itertools.count()
        places = [None if leaf is None else next(numbers) for leaf in leaves]
        self.structure = nest.pack_sequence_as(data, places)
        # How many batches are gathered at once, at most.
        row = sum(math.prod(t.shape[1:]) * t.dtype.size for t in self._tensors)
        self.most_batches = max(1, _MOST_GATHERED // (batch_size * max(row, 1)))

    def part(self, rows: npt.NDArray[np.int32]) -> Part:
        """Returns the batches of these rows."""
        return Part(self, rows)

    def gather(self, rows: npt.NDArray[np.int32]) -> list[Any]:
        """Returns these rows of all tensors."""
        indices = tf.constant(rows)
        return [tf.gather(tensor, indices) for tensor in self._tensors]


def arrange(structure: Any, tensors: Sequence[Any]) -> Any:
    """Returns the nest with tensors in the places of its numbers."""
    leaves = [None if leaf is None else tensors[leaf] for leaf in nest.flatten(structure)]
    return nest.pack_sequence_as(structure, leaves)


class Part:
    """Batches of some rows of examples.

    Args:
        examples: What the rows are of.
        rows: Their numbers, in order.
    """

    def __init__(self, examples: Examples, rows: npt.NDArray[np.int32]) -> None:
        self.examples = examples
        self._rows = rows

    @property
    def whole(self) -> int:
        """How many batches are not smaller than the others."""
        return len(self._rows) // self.examples.batch_size

    @property
    def count(self) -> int:
        """How many batches there are."""
        return -(-len(self._rows) // self.examples.batch_size)

    def tensors(self, first: int, end: int) -> list[Any]:
        """Returns the rows of the batches from the first up to the end, of all tensors."""
        size = self.examples.batch_size
        return self.examples.gather(self._rows[first * size : end * size])

    def __iter__(self) -> Iterator[Any]:
        """Goes through the batches one by one."""
        for at in range(self.count):
            yield arrange(self.examples.structure, self.tensors(at, at + 1))
