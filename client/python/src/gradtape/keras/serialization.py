"""Objects as plain data, in the format of Keras, and back.

An object is a dictionary of its `module`, its `class_name` and its `config`, the arguments that
make it. What is read back may come from a file that someone else wrote: only classes of this
package, and those of the program that it registered or that extend one of ours, are made of it,
and no code in it runs.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import gradtape as tf
from gradtape.tensor import Value

_PLAIN = (str, int, float, bool, type(None))
# Where classes and functions of this package are found, in the order in which they are looked for.
_MODULES = (
    "layers", "models", "initializers", "regularizers", "constraints", "activations", "losses",
    "metrics", "optimizers", "optimizers.schedules", "random", "callbacks",
)  # fmt: skip
# Names and the modules that Keras itself writes for them.
_OF_KERAS = {"Sequential": "keras", "Model": "keras", "DTypePolicy": "keras"}
_PRIVATE = {"Functional": "keras.src.models.functional"}


class _Registry:
    """The classes and functions that a program registered, by name and the other way round."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.names: dict[Any, str] = {}
        # Those of `custom_object_scope`, the innermost last.
        self.scopes: list[Mapping[str, Any]] = []


_registry = _Registry()


def register_keras_serializable(
    package: str = "Custom", name: str | None = None
) -> Callable[[Any], Any]:
    """Decorates a class or function that files may name.

    Args:
        package: First part of the name.
        name: Second part; the class' or function's own by default.
    """

    def register(found: Any) -> Any:
        full = f"{package}>{name or found.__name__}"
        if isinstance(found, type) and not hasattr(found, "get_config"):
            raise ValueError("Cannot register a class that does not have a get_config() method.")
        _registry.objects[full] = found
        _registry.names[found] = full
        return found

    return register


def get_custom_objects() -> dict[str, Any]:
    """Returns the registered classes and functions by name; changes of it count."""
    return _registry.objects


def get_registered_name(obj: Any) -> str:
    """Returns the name that a class or function was registered with, or its own."""
    return _registry.names.get(obj, obj.__name__)


def get_registered_object(
    name: str,
    custom_objects: Mapping[str, Any] | None = None,
    module_objects: Mapping[str, Any] | None = None,
) -> Any:
    """Returns the class or function of a name, or None.

    Args:
        name: The name.
        custom_objects: Classes and functions by name, which come after registered ones.
        module_objects: Others, which come last.
    """
    for known in (*reversed(_registry.scopes), _registry.objects, custom_objects, module_objects):
        if known is not None and name in known:
            return known[name]
    return None


class CustomObjectScope:
    """Lets files name classes and functions within a `with` block.

    Args:
        custom_objects: They, by name.
    """

    def __init__(self, custom_objects: Mapping[str, Any]) -> None:
        self.custom_objects = dict(custom_objects or {})

    def __enter__(self) -> CustomObjectScope:
        _registry.scopes.append(self.custom_objects)
        return self

    def __exit__(self, *_: object) -> None:
        _registry.scopes.remove(self.custom_objects)


custom_object_scope = CustomObjectScope


# === Writing ===


def serialize_keras_object(obj: Any) -> Any:
    """Returns an object, or a nest of them, as plain data."""
    if isinstance(obj, _PLAIN):
        return obj
    if isinstance(obj, (list, tuple)):
        return [serialize_keras_object(item) for item in obj]
    if isinstance(obj, Mapping):
        return {str(key): serialize_keras_object(item) for key, item in obj.items()}
    special = _special(obj)
    if special is not None:
        return special
    if isinstance(obj, (types.FunctionType, types.BuiltinFunctionType)):
        return _function(obj)
    return _object(obj)


def _special(obj: Any) -> Any:
    """Returns what has a form of its own, or None."""
    if isinstance(obj, tf.DType):
        return obj.name
    if isinstance(obj, Value):
        config = {"value": obj.numpy().tolist(), "dtype": obj.dtype.name}
        return {"class_name": "__tensor__", "config": config}
    if isinstance(obj, np.ndarray) and obj.ndim:
        config = {"value": obj.tolist(), "dtype": obj.dtype.name}
        return {"class_name": "__numpy__", "config": config}
    if isinstance(obj, (np.generic, np.ndarray)):
        return obj.item()
    if isinstance(obj, slice):
        parts = {name: getattr(obj, name) for name in ("start", "stop", "step")}
        return {"class_name": "__slice__", "config": parts}
    if obj is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    return None


def _function(function: Any) -> Any:
    name = function.__name__
    if name == "<lambda>":
        raise ValueError(
            "A lambda cannot be written: use a function that has a name, and register it with "
            "`keras.saving.register_keras_serializable`."
        )
    if function not in _registry.names and function.__module__.startswith("gradtape."):
        return name
    registered = get_registered_name(function)
    return {
        "module": function.__module__,
        "class_name": "function",
        "config": registered,
        "registered_name": registered,
    }


def _object(obj: Any) -> dict[str, Any]:
    if isinstance(obj, type):
        raise TypeError(f"Cannot serialize the class {obj}: only objects have arguments.")
    if not hasattr(obj, "get_config"):
        raise TypeError(
            f"Cannot serialize object {obj} of type {type(obj)}. "
            "To be serializable, a class must implement the `get_config()` method."
        )
    module, name, registered = _name_of(obj)
    found = {
        "module": module,
        "class_name": name,
        "config": serialize_keras_object(obj.get_config()),
        "registered_name": registered,
    }
    for key in ("build_config", "compile_config"):
        method = getattr(obj, f"get_{key}", None)
        config = None if method is None else method()
        if config is not None:
            found[key] = serialize_keras_object(config)
    return found


def _name_of(obj: Any) -> tuple[str, str, str | None]:
    """Returns module, class and registered name of an object as Keras writes them."""
    cls = type(obj)
    if cls not in _registry.names and cls.__module__.startswith("gradtape."):
        name = getattr(obj, "keras_class_name", cls.__name__)
        if name in _PRIVATE:
            return _PRIVATE[name], name, name
        if name in _OF_KERAS:
            return _OF_KERAS[name], name, None
        for module in _MODULES:
            # Losses and metrics have names in common.
            if getattr(_module(module), name, None) is cls:
                return f"keras.{module}", name, None
    return cls.__module__, cls.__name__, get_registered_name(cls)


def _module(name: str) -> Any:
    found: Any = tf.keras
    for part in name.split("."):
        found = getattr(found, part)
    return found


# === Reading ===


def deserialize_keras_object(
    config: Any,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    **kwargs: Any,
) -> Any:
    """Returns the object, or the nest of them, that plain data tells of.

    Args:
        config: The data.
        custom_objects: Classes and functions of the program by name.
        safe_mode: Makes no difference: code in files never runs.
        **kwargs: Ignored.
    """
    if custom_objects:
        with CustomObjectScope(custom_objects):
            return deserialize_keras_object(config)
    if isinstance(config, (list, tuple)):
        return type(config)(deserialize_keras_object(item) for item in config)
    if not isinstance(config, Mapping):
        return config
    if "class_name" not in config or "config" not in config:
        return {key: deserialize_keras_object(item) for key, item in config.items()}
    name, inner = config["class_name"], config["config"]
    if name in _SPECIAL:
        return _SPECIAL[name](inner)
    if name == "function":
        return _find_function(config)
    found = _find_class(config)
    instance = found.from_config(inner)
    if config.get("build_config") and hasattr(instance, "build_from_config"):
        instance.build_from_config(config["build_config"])
    if config.get("compile_config") and hasattr(instance, "compile_from_config"):
        instance.compile_from_config(config["compile_config"])
    return instance


def _refuse_lambda(_: Any) -> Any:
    raise ValueError(
        "The file has a lambda, which is code: it is not run. Make the layer of a function that "
        "has a name, and register it with `keras.saving.register_keras_serializable`."
    )


def _array(config: Mapping[str, Any]) -> Any:
    return np.array(config["value"], tf.as_dtype(config["dtype"]).as_numpy_dtype)


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    "__tensor__": lambda config: tf.constant(_array(config)),
    "__numpy__": lambda config: np.array(config["value"], np.dtype(config["dtype"])),
    "__slice__": lambda config: slice(config["start"], config["stop"], config["step"]),
    "__tuple__": lambda config: tuple(map(deserialize_keras_object, config)),
    "__ellipsis__": lambda _: Ellipsis,
    "__lambda__": _refuse_lambda,
}


def _names(config: Mapping[str, Any], name: Any) -> Iterator[str]:
    for each in (config.get("registered_name"), name):
        if isinstance(each, str):
            yield each


def _find_function(config: Mapping[str, Any]) -> Any:
    for name in _names(config, config["config"]):
        found = get_registered_object(name)
        if found is not None:
            return found
        for module in ("activations", "losses", "metrics"):
            found = getattr(_module(module), name, None)
            if inspect.isfunction(found) and found.__module__.startswith("gradtape."):
                return found
    raise ValueError(
        f"Could not locate function '{config['config']}'. Make sure custom functions are decorated "
        "with `@keras.saving.register_keras_serializable()`, or give them in `custom_objects`."
    )


def _find_class(config: Mapping[str, Any]) -> Any:
    name, module = config["class_name"], config.get("module")
    for each in _names(config, name):
        found = get_registered_object(each)
        if found is not None:
            return found
    if module is None or module.partition(".")[0] == "keras":
        if name == "Functional":
            return tf.keras.models.Functional
        path = (module or "").partition(".")[2]
        listed = (path,) if path in _MODULES else _MODULES
        for each in listed:
            found = getattr(_module(each), name, None)
            if isinstance(found, type):
                return found
        found = getattr(tf.keras, name, None)
        if isinstance(found, type) and hasattr(found, "from_config"):
            return found
    elif module in sys.modules:
        found = getattr(sys.modules[module], name, None)
        if isinstance(found, type) and issubclass(found, _bases()):
            return found
    raise TypeError(
        f"Could not locate class '{name}'. Make sure custom classes are decorated with "
        "`@keras.saving.register_keras_serializable()`, or give them in `custom_objects`."
    )


def _bases() -> tuple[type, ...]:
    """Returns the classes of which a program's own may be made although it registered none."""
    keras = tf.keras
    return (
        keras.layers.Layer, keras.Loss, keras.Metric, keras.Initializer, keras.Regularizer,
        keras.constraints.Constraint, keras.Optimizer,
        keras.optimizers.schedules.LearningRateSchedule,
    )  # fmt: skip


def serialize(obj: Any) -> Any:
    """Returns an object or function as plain data: `serialize` of the namespaces."""
    return serialize_keras_object(obj)
