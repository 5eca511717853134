"""Predicts which gradients exist, so that a training loop never waits to learn it.

Whether a gradient is dense, sparse or absent depends on the pattern that a tape recorded, not on
numbers. A `Signature` follows the pattern through a tree of `Node`s, one step for each event: which
op with which attributes on which of the values seen before, what is watched, what other tapes did
meanwhile. Two recordings that end in the same node are the same pattern, so the answer that the
server gave for the first holds for the second. Comparing costs nothing, because it is the walk
itself, and there are no hashes to collide.

Anything that a signature could not follow moves it to a node of its own, which has no answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from typing import Any

# Nodes in the tree before it is forgotten: programs whose pattern never repeats must not fill the
# memory.
_MOST_NODES = 500_000


class Node:
    """A pattern: what may follow it, and the answers for gradients asked for here."""

    __slots__ = ("answers", "next")

    def __init__(self) -> None:
        self.next: dict[Hashable, Node] = {}
        self.answers: dict[Hashable, tuple[Any, ...]] = {}


class _Tree:
    def __init__(self) -> None:
        self.roots: dict[Hashable, Node] = {}
        self.nodes = 0

    def root(self, key: Hashable) -> Node:
        if self.nodes > _MOST_NODES:
            self.roots.clear()
            self.nodes = 0
        return self.roots.setdefault(key, Node())


_tree = _Tree()

MISPREDICTED = "a gradient's presence was predicted wrongly; please report this program"


def forget_patterns() -> None:
    """Forgets every answer, so that none is given again that turned out to be wrong.

    Called from any thread: a signature that is under way keeps the nodes that it walks on.
    """
    _tree.roots.clear()
    _tree.nodes = 0


# Tells values and variables of this process apart.
new_serial = itertools.count().__next__


class Listener:
    """Hears what a signature hears, where it stands among the tapes of a scope."""

    def number(self, value: Any) -> int:
        """Hears that a value, variable or generator is used."""
        return 0

    def step(self, key: Any) -> None:
        """Hears of an event."""

    def record(self, op: Any, inputs: Sequence[Any], result: Any) -> None:
        """Hears of the application of an op with one result."""
        for value in inputs:
            self.number(value)

    def add(self, value: Any) -> int:
        """Hears of a value that an event made."""
        return 0

    def tape_number(self, tape: Any) -> int:
        """Hears of a tape."""
        return 0

    def lose_track(self) -> None:
        """Hears of an event that cannot be followed."""


class Signature:
    """What one tape has recorded so far."""

    __slots__ = ("_numbers", "_root", "_tapes", "node")

    def __init__(self, root: Hashable) -> None:
        self._root = root
        self.reset()

    def reset(self) -> None:
        """Starts from nothing."""
        self.node = _tree.root(self._root)
        self._numbers: dict[int, int] = {}
        self._tapes: dict[int, int] = {}

    def step(self, key: Hashable) -> None:
        """Follows an event."""
        try:
            self.node = self.node.next[key]
        except KeyError:
            self.node.next[key] = node = Node()
            self.node = node
            _tree.nodes += 1

    def record(self, op: Hashable, inputs: Sequence[Any], result: Any) -> None:
        """Follows the application of an op with one result."""
        numbers = self._numbers
        if len(inputs) == 2:
            # Most have two, and mapping a function over them costs more than all the rest.
            x, y = inputs
            i, j = numbers.get(x._serial), numbers.get(y._serial)
            i = self.number(x) if i is None else i
            j = self.number(y) if j is None else j
            key: tuple[Hashable, ...] = (op, i, j)
        else:
            key = (op, *map(self.number, inputs))
        self.step(key)
        numbers[result._serial] = len(numbers)

    def lose_track(self) -> None:
        """Leaves the tree after an event that cannot be followed."""
        self.node = Node()

    def number(self, value: Any) -> int:
        """Returns the number of a value, variable or generator that an event uses."""
        found = self._numbers.get(value._serial)
        if found is None:
            # What it is where it comes from outside: its dtype and, where known, its rank (a
            # negative axis needs it to be understood), and of a variable whether tapes watch it.
            shape = value._form.shape
            rank = None if shape is None else len(shape)
            self.step((value._dtype.number, rank, value._trainable))
            found = self.add(value)
        return found

    def add(self, value: Any) -> int:
        """Numbers a value that an event made."""
        # By serial number: handles are used again, also for values that this signature never met.
        number = len(self._numbers)
        self._numbers[value._serial] = number
        return number

    def tape_number(self, tape: Any) -> int:
        """Returns the number of a tape that an event concerns."""
        return self._tapes.setdefault(tape._serial, len(self._tapes))
