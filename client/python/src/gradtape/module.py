"""Objects that own variables (`tf.Module`)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from gradtape.variable import Variable

_Method = TypeVar("_Method", bound=Callable[..., Any])


class Module:
    """An object whose attributes may be variables and modules, also in lists and dictionaries.

    Args:
        name: Name for people; the class' name in snake_case if there is none.
    """

    def __init__(self, name: str | None = None) -> None:
        if name is not None and not name.isidentifier():
            raise ValueError(f"{name!r} is not a valid module name. Must be a valid identifier.")
        self._name = name or snake_case(type(self).__name__)

    @property
    def name(self) -> str:
        """Name for people."""
        return getattr(self, "_name", None) or snake_case(type(self).__name__)

    @property
    def name_scope(self) -> contextlib.AbstractContextManager[None]:
        """Does nothing: names have no scopes here."""
        return contextlib.nullcontext()

    @classmethod
    def with_name_scope(cls, method: _Method) -> _Method:
        """Returns the method: names have no scopes here."""
        return method

    @property
    def variables(self) -> tuple[Variable, ...]:
        """All variables of this module and of those in it."""
        return tuple(self._walk(Variable, {id(self)}))

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
        """Yields what is of a kind in this module, then what is in the modules in it."""
        modules = []
        # TensorFlow sorts attributes by name, so that the order does not depend on __init__.
        for _, attribute in sorted(vars(self).items()):
            for leaf in leaves(attribute):
                if isinstance(leaf, (Module, Variable)) and id(leaf) not in seen:
                    seen.add(id(leaf))
                    if isinstance(leaf, kind):
                        yield leaf
                    if isinstance(leaf, Module):
                        modules.append(leaf)
        for module in modules:
            yield from module._walk(kind, seen)


def leaves(structure: Any) -> Iterator[Any]:
    """Yields what lists, tuples and dictionaries contain, in their own order."""
    if isinstance(structure, Mapping):
        structure = list(structure.values())
    if isinstance(structure, (list, tuple)):
        for item in structure:
            yield from leaves(item)
    else:
        yield structure


def snake_case(name: str) -> str:
    """Converts the name of a class, as in MyLayer, to that of an object, as in my_layer."""
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name.lstrip("_"))
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", words).lower()
