"""Finds losses, metrics, initializers and their like by the names that Keras gives them."""

from __future__ import annotations

import collections
import inspect
import re
from collections.abc import Mapping
from typing import Any


def find(kind: str, names: Mapping[str, Any], identifier: Any) -> Any:
    """Returns what a name stands for; a class is made an object, all else is returned as it is.

    Args:
        kind: What is looked for, for the message.
        names: What there is, by name in snake_case.
        identifier: A name in snake_case or CamelCase, a class, an object, a function, or what
            `serialize` returned.
    """
    if isinstance(identifier, Mapping):
        from gradtape.keras import serialization

        return serialization.deserialize_keras_object(identifier)
    if isinstance(identifier, str):
        found = names.get(identifier) or names.get(snake_case(identifier)) or _custom(identifier)
        if found is None:
            raise ValueError(
                f"Could not interpret {kind} identifier: {identifier!r}. "
                f"There are: {', '.join(sorted(names))}"
            )
        identifier = found
    if not callable(identifier):
        raise ValueError(f"Could not interpret {kind} identifier: {identifier!r}")
    return identifier() if inspect.isclass(identifier) else identifier


def _custom(name: str) -> Any:
    """Returns what the program registered by a name, or None."""
    from gradtape.keras import serialization

    return serialization.get_registered_object(name)


def deserialize(get: Any, config: Any, custom_objects: Any = None) -> Any:
    """Returns what a name or plain data stands for: `deserialize` of the namespaces.

    Args:
        get: The namespace's own `get`.
        config: The name or the data.
        custom_objects: Classes and functions of the program by name.
    """
    from gradtape.keras import serialization

    with serialization.CustomObjectScope(custom_objects or {}):
        return get(config)


def snake_case(name: str) -> str:
    """Converts the name of a class, as in Conv2D, to Keras' name of an object, as in conv2d."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name.lstrip("_"))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


_names: collections.Counter[str] = collections.Counter()


def unused_name(name: str) -> str:
    """Returns a name that was not returned before: the given one, or one with a number."""
    number = _names[name]
    _names[name] += 1
    return f"{name}_{number}" if number else name


def forget_names() -> None:
    """Lets `unused_name` count from the start."""
    _names.clear()
