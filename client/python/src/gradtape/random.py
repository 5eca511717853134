"""Random tensors (`tf.random`). They are made on the server by a counter-based generator."""

from __future__ import annotations

import hashlib
import math
import secrets
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from gradtape import _context, _ops, _wire, dtypes
from gradtape._execute import command
from gradtape._export import integers
from gradtape._form import of_shape
from gradtape.tensor import Tensor, Value, cast, constant

Draw = Callable[[int], Any]


class Generator:
    """A source of random numbers that never repeat (`tf.random.Generator`).

    Args:
        seed: The same seed gives the same numbers on every machine.
    """

    def __init__(self, seed: int) -> None:
        _context.creating("the creation of random generators")
        scope = _context.scope()
        self._session = scope.session
        self._handle = scope.session.new_handle()
        body = _wire.handle_field(1, self._handle) + _wire.number_field(2, int(seed))
        command(_wire.CREATE_GENERATOR, body, scope)

    @classmethod
    def from_seed(cls, seed: int, alg: Any = None) -> Generator:
        """Returns the generator of a seed."""
        return cls(seed)

    @classmethod
    def from_non_deterministic_state(cls, alg: Any = None) -> Generator:
        """Returns a generator that nobody can predict."""
        return cls(secrets.randbits(63))

    def normal(
        self,
        shape: Any,
        mean: Any = 0.0,
        stddev: Any = 1.0,
        dtype: Any = dtypes.float32,
        name: str | None = None,
    ) -> Tensor:
        """Returns normal random numbers."""
        return _normal(self._draw, shape, mean, stddev, dtype)

    def uniform(
        self,
        shape: Any,
        minval: Any = 0,
        maxval: Any = None,
        dtype: Any = dtypes.float32,
        name: str | None = None,
    ) -> Tensor:
        """Returns uniform random numbers from `minval` up to but not including `maxval`."""
        return _uniform(self._draw, shape, minval, maxval, dtype)

    def _draw(self, count: int) -> Tensor:
        """Takes the state for `count` numbers and moves the generator on."""
        graph = _context.scope().graph
        if graph is not None:
            graph.captures[-id(self)] = self
            graph.random = generation()
        out = self._session.new_handle()
        body = _wire.handle_field(1, self._handle) + _wire.handle_field(2, out)
        command(_wire.NEXT_GENERATOR_STATE, body + _wire.number_field(3, max(count, 1)))
        return Tensor(self._session, out, dtypes.int64, of_shape((2,)))

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._session.dead.append(self._handle)


class _Global:
    """The generators behind the functions that take none: one, and one for each `seed` argument."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seed: int | None = None
        # Counts how often they were replaced: functions that draw from them are then traced anew.
        self.generation = 0
        self._generators: dict[int | None, Generator] = {}

    def set_seed(self, seed: int) -> None:
        with self._lock:
            self.seed = int(seed)
            self.generation += 1
            self._generators.clear()

    def replace(self, generator: Generator) -> None:
        with self._lock:
            self.generation += 1
            self._generators[None] = generator

    def generator(self, seed: int | None) -> Generator:
        session = _context.scope().session
        with self._lock:
            found = self._generators.get(seed)
            if found is None or found._session is not session:
                if seed is not None:
                    key = _mix(self.seed or 0, seed)
                else:
                    key = secrets.randbits(63) if self.seed is None else self.seed
                found = self._generators[seed] = Generator(key)
            return found


_global = _Global()


def generation() -> int:
    """Returns how often the generators of this module were replaced."""
    return _global.generation


def set_seed(seed: int) -> None:
    """Makes the functions of this module start again from a seed."""
    _global.set_seed(seed)


def get_global_generator() -> Generator:
    """Returns the generator that the functions of this module draw from."""
    return _global.generator(None)


def set_global_generator(generator: Generator) -> None:
    """Makes the functions of this module draw from a generator."""
    _global.replace(generator)


def normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Returns normal random numbers, other ones at each call.

    Args:
        shape: Shape of the result.
        mean: Mean.
        stddev: Standard deviation.
        dtype: Element type, a floating-point one.
        seed: Starts a sequence of its own: its calls give the same numbers in each run.
        name: Ignored.
    """
    return _normal(_global.generator(seed)._draw, shape, mean, stddev, dtype)


def uniform(
    shape: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Returns uniform random numbers, other ones at each call.

    Args:
        shape: Shape of the result.
        minval: Smallest number.
        maxval: Number above all; 1 by default. Integers must give it.
        dtype: Element type, of integers too.
        seed: Starts a sequence of its own: its calls give the same numbers in each run.
        name: Ignored.
    """
    return _uniform(_global.generator(seed)._draw, shape, minval, maxval, dtype)


def stateless_normal(
    shape: Any,
    seed: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = dtypes.float32,
    name: str | None = None,
    alg: Any = "auto_select",
) -> Tensor:
    """Returns normal random numbers that depend on nothing but the arguments.

    Args:
        shape: Shape of the result.
        seed: Two integers.
        mean: Mean.
        stddev: Standard deviation.
        dtype: Element type, a floating-point one.
        name: Ignored.
        alg: Ignored.
    """
    return _normal(_state(seed), shape, mean, stddev, dtype)


def stateless_uniform(
    shape: Any,
    seed: Any,
    minval: Any = 0,
    maxval: Any = None,
    dtype: Any = dtypes.float32,
    name: str | None = None,
    alg: Any = "auto_select",
) -> Tensor:
    """Returns uniform random numbers that depend on nothing but the arguments.

    Args:
        shape: Shape of the result.
        seed: Two integers.
        minval: Smallest number.
        maxval: Number above all; 1 by default. Integers must give it.
        dtype: Element type, of integers too.
        name: Ignored.
        alg: Ignored.
    """
    return _uniform(_state(seed), shape, minval, maxval, dtype)


def _state(seed: Any) -> Draw:
    pair = integers(seed)
    if len(pair) != 2:
        raise ValueError(f"A seed of the stateless functions is two integers, got {seed}")
    # The second integer is no counter: numbers of (1, 2) and (1, 3) must not overlap.
    key = _mix(*pair)
    return lambda _: constant(np.array([key, 0], np.int64))


def _mix(first: int, second: int) -> int:
    """Returns a well-mixed key of two integers."""
    data = struct.pack("<2Q", first & _WORD, second & _WORD)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


_WORD = 0xFFFF_FFFF_FFFF_FFFF


def _normal(draw: Draw, shape: Any, mean: Any, stddev: Any, dtype: Any) -> Tensor:
    shape, dtype = integers(shape), dtypes.as_dtype(dtype)
    state = draw(math.prod(shape))
    if np.ndim(mean) == 0 and np.ndim(stddev) == 0 and not _tensors(mean, stddev):
        return _ops.random_normal(
            state, shape=shape, dtype=dtype, mean=float(mean), stddev=float(stddev)
        )
    return _ops.random_normal(state, shape=shape, dtype=dtype) * stddev + mean


def _uniform(draw: Draw, shape: Any, minval: Any, maxval: Any, dtype: Any) -> Tensor:
    shape, dtype = integers(shape), dtypes.as_dtype(dtype)
    if maxval is None:
        if dtype.is_integer:
            raise ValueError(f"Must specify maxval for integer dtype {dtype.name}")
        maxval = 1
    if dtype.is_integer:
        # Doubles hold every integer up to 2^53, and a floor makes the intervals equally long.
        real = _uniform(draw, shape, _real(minval), _real(maxval), dtypes.float64)
        return cast(_ops.floor(real), dtype)
    state = draw(math.prod(shape))
    if np.ndim(minval) == 0 and np.ndim(maxval) == 0 and not _tensors(minval, maxval):
        return _ops.random_uniform(
            state, shape=shape, dtype=dtype, minval=float(minval), maxval=float(maxval)
        )
    unit = _ops.random_uniform(state, shape=shape, dtype=dtype)
    return _ops.add(_ops.multiply(unit, _ops.subtract(maxval, minval)), minval)


def _tensors(*values: Any) -> bool:
    return any(isinstance(value, Value) for value in values)


def _real(value: Any) -> Any:
    return cast(value, dtypes.float64) if isinstance(value, Value) or np.ndim(value) else value


__all__ = [
    "Generator", "get_global_generator", "normal", "set_global_generator", "set_seed",
    "stateless_normal", "stateless_uniform", "uniform",
]  # fmt: skip
