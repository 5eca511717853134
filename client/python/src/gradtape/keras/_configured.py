"""Objects that know the arguments they were made with, so that they can be made again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_Init = TypeVar("_Init", bound=Callable[..., None])

# Constructors of this package know their arguments better than the subclass of a program does.
_PACKAGE = "gradtape."


class Arguments:
    """What the constructors of an object's class and of its bases were called with."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls: dict[Any, tuple[Any, Any]] = {}


def recording(init: _Init) -> _Init:
    """Lets a constructor remember its arguments."""

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        held = self.__dict__.get("_arguments")
        if held is None:
            held = self.__dict__["_arguments"] = Arguments()
        held.calls.setdefault(wrapper, (args, kwargs))
        init(self, *args, **kwargs)

    return wrapper  # type: ignore[return-value]


class Configured:
    """The base of what has `get_config` and `from_config`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = recording(cls.__init__)  # type: ignore[method-assign]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make such an object, by name and as plain data."""
        return plain(arguments_of(self))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes an object of what `get_config` returned.

        Arguments that Keras has and this package does not are left out where they are off.
        """
        return cls(**taken(cls, config))


def has_own_config(cls: Any) -> bool:
    """Says whether a class of the program has a `get_config` of its own."""
    return not cls.get_config.__module__.startswith(_PACKAGE)


def arguments_of(value: Any) -> dict[str, Any]:
    """Returns the arguments of an object's constructor by name, with its defaults.

    Where a class of the program has its own `get_config` and asks for more, it gets the arguments
    of the class of this package that it extends.
    """
    cls: Any = type(value)
    if has_own_config(cls):
        cls = next(base for base in cls.__mro__ if base.__module__.startswith(_PACKAGE))
    held = value.__dict__.get("_arguments")
    call = None if held is None else held.calls.get(cls.__init__)
    if call is None:
        return {}
    signature = inspect.signature(cls)
    bound = signature.bind(*call[0], **call[1])
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, given in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            found |= given
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            found[name] = given
    for name in ("name", "dtype"):
        if name in found and found[name] is None:
            known = getattr(value, name, None)
            found[name] = getattr(known, "name", known)
    return found


# What `Layer` takes by way of its subclasses' `**kwargs`.
_OF_LAYERS = ("name", "trainable", "dtype", "activity_regularizer", "zero_output_for_mask")


def taken(cls: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments in a configuration but those that a class lacks and that are off."""
    return {
        name: value
        for name, value in revived(config).items()
        if (value is not None and value is not False)
        or takes(cls, name, by_name=name not in _OF_LAYERS)
    }


def takes(cls: Any, name: str, by_name: bool = False) -> bool:
    """Says whether a class' constructor takes an argument.

    Args:
        cls: The class.
        name: The argument.
        by_name: Whether it does not suffice that it takes any.
    """
    parameters = inspect.signature(cls).parameters
    return name in parameters or any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD and not by_name
        for parameter in parameters.values()
    )


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arguments as plain data."""
    from gradtape.keras import serialization

    return {name: serialization.serialize_keras_object(value) for name, value in config.items()}


def revived(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arguments of what `plain` made of them."""
    from gradtape.keras import serialization

    return {name: serialization.deserialize_keras_object(value) for name, value in config.items()}
