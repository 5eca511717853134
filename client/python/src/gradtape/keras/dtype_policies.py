"""In which dtype a layer computes, and in which it keeps its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradtape as tf

_MIXED = ("mixed_float16", "mixed_bfloat16")


class DTypePolicy:
    """A dtype to compute in and one to keep weights in.

    Args:
        name: The name of a dtype, which is both; or "mixed_float16" or "mixed_bfloat16", with
            weights of float32.
        source_name: Ignored.
    """

    def __init__(self, name: str | None = None, source_name: str | None = None) -> None:
        name = tf.keras.backend.floatx() if name is None else name
        if not isinstance(name, str):
            raise TypeError(f"'name' must be a string, such as 'mixed_float16', got {name!r}")
        self._name = name
        self._compute = tf.as_dtype(name.removeprefix("mixed_") if name in _MIXED else name)
        self._variable = tf.float32 if name in _MIXED else self._compute

    @property
    def name(self) -> str:
        """The name."""
        return self._name

    @property
    def compute_dtype(self) -> str:
        """Name of the dtype to compute in."""
        return self._compute.name

    @property
    def variable_dtype(self) -> str:
        """Name of the dtype of weights."""
        return self._variable.name

    @property
    def quantization_mode(self) -> None:
        """None: nothing is quantised here."""
        return

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make such a policy."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DTypePolicy:
        """Makes a policy of what `get_config` returned."""
        return cls(config["name"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'


FloatDTypePolicy = DTypePolicy


class _Global:
    policy: DTypePolicy | None = None


def dtype_policy() -> DTypePolicy:
    """Returns the policy of layers that are not told another."""
    return _Global.policy or DTypePolicy(tf.keras.backend.floatx())


def set_dtype_policy(policy: Any) -> None:
    """Sets the policy of layers that are not told another: a policy or its name."""
    _Global.policy = None if policy is None else get(policy)


def get(identifier: Any) -> DTypePolicy:
    """Returns a policy by its name, by a dtype or by what `serialize` returned."""
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, Mapping):
        return deserialize(identifier)
    if isinstance(identifier, str):
        return DTypePolicy(identifier)
    return DTypePolicy(tf.as_dtype(identifier).name)


def serialize(dtype_policy: DTypePolicy) -> Any:
    """Returns a policy as plain data."""
    return {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": dtype_policy.get_config(),
        "registered_name": None,
    }


def deserialize(config: Any, custom_objects: Any = None) -> DTypePolicy:
    """Returns the policy of what `serialize` returned."""
    if config.get("class_name") not in ("DTypePolicy", "FloatDTypePolicy"):
        raise ValueError(f"There is no dtype policy {config.get('class_name')!r} here.")
    return DTypePolicy(config["config"]["name"])
