"""Objects that own variables (`tf.Module`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gradtape.variable import Variable


class Module:
    """An object whose attributes may be variables and other modules.

    Args:
        name: Name for people; the class' name in lower case if there is none.
    """

    def __init__(self, name: str | None = None) -> None:
        self._name = name or type(self).__name__.lower()

    @property
    def name(self) -> str:
        """Name for people."""
        return getattr(self, "_name", type(self).__name__.lower())

    @property
    def variables(self) -> tuple[Variable, ...]:
        """All variables of this module and of those in it."""
        return tuple(self._walk(Variable, set()))

    @property
    def trainable_variables(self) -> tuple[Variable, ...]:
        """The variables that tapes watch by themselves."""
        return tuple(variable for variable in self.variables if variable.trainable)

    @property
    def non_trainable_variables(self) -> tuple[Variable, ...]:
        """The other variables."""
        return tuple(variable for variable in self.variables if not variable.trainable)

    @property
    def submodules(self) -> tuple[Module, ...]:
        """All modules in this one."""
        return tuple(self._walk(Module, {id(self)}))

    def _walk(self, kind: type, seen: set[int]) -> Iterator[Any]:
        # TensorFlow sorts attributes by name, so that the order does not depend on __init__.
        for _, value in sorted(vars(self).items()):
            yield from _find(value, kind, seen)


def _find(value: Any, kind: type, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:
        return
    if isinstance(value, kind):
        seen.add(id(value))
        yield value
    if isinstance(value, Module):
        seen.add(id(value))
        yield from value._walk(kind, seen)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _find(item, kind, seen)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _find(item, kind, seen)
