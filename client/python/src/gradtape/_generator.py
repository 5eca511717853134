"""Generators of random numbers, and the seeds of functions without one (`tf.random.Generator`)."""

from __future__ import annotations

import enum
import hashlib
import secrets
import struct
import threading
from typing import Any

import numpy as np

from gradtape import _context, _distributions, _ops, _wire, dtypes
from gradtape._distributions import Draw
from gradtape._execute import command
from gradtape._export import integers
from gradtape._form import of_shape
from gradtape.tensor import Tensor, Value, constant

# What one command may draw, and so many commands may bring a generator to its counter.
_MOST_DRAWS = 1 << 40
_MOST_STEPS = 64


class Algorithm(enum.Enum):
    """Algorithms of TensorFlow. Any of them means Philox here."""

    PHILOX = 1
    THREEFRY = 2
    AUTO_SELECT = 3


class Generator:
    """A source of random numbers that never repeat (`tf.random.Generator`).

    Args:
        copy_from: A generator, from whose state this one starts; instead of `state`.
        state: What `create_rng_state` or `Generator.state` gives.
        alg: Ignored: there is one algorithm, Philox 4x32-10.
    """

    def __init__(
        self, copy_from: Generator | None = None, state: Any = None, alg: Any = None
    ) -> None:
        if (copy_from is None) == (state is None):
            raise ValueError("Give either `copy_from` or `state`; or see Generator.from_seed.")
        self.reset(copy_from.state if copy_from is not None else state)

    @classmethod
    def from_seed(cls, seed: int, alg: Any = None) -> Generator:
        """Returns the generator of a seed: the same seed gives the same numbers everywhere."""
        return cls(state=(0, 0, as_int64(seed)))

    @classmethod
    def from_non_deterministic_state(cls, alg: Any = None) -> Generator:
        """Returns a generator that nobody can predict."""
        return cls(state=(0, 0, secrets.randbits(63)))

    @classmethod
    def from_state(cls, state: Any, alg: Any = None) -> Generator:
        """Returns the generator that goes on from a state."""
        return cls(state=state)

    @classmethod
    def from_key_counter(cls, key: Any, counter: Any, alg: Any = None) -> Generator:
        """Returns the generator of a key at a counter."""
        return cls(state=(integers(counter)[0], 0, integers(key)[0]))

    @property
    def algorithm(self) -> int:
        """The number of Philox."""
        return Algorithm.PHILOX.value

    @property
    def state(self) -> Tensor:
        """Three numbers from which another generator can go on: counter, 0 and key."""
        # A draw of one, which a new start takes back.
        key, counter = self._draw(1).numpy().tolist()
        self._start(key, counter)
        return constant(np.array([counter, 0, key], np.int64))

    @property
    def key(self) -> Tensor:
        """The key."""
        return self.state[2]

    def reset(self, state: Any) -> None:
        """Goes on from a state."""
        numbers = integers(state)
        if len(numbers) != 3:
            raise ValueError(f"A state is three numbers, got {numbers}")
        self._start(numbers[2], numbers[0])

    def reset_from_seed(self, seed: int) -> None:
        """Starts again as `from_seed` does."""
        self._start(as_int64(seed), 0)

    def reset_from_key_counter(self, key: Any, counter: Any) -> None:
        """Goes on from a key and a counter."""
        self._start(integers(key)[0], integers(counter)[0])

    def skip(self, delta: int) -> None:
        """Moves on as if so many numbers were drawn."""
        counter, _, key = self.state.numpy().tolist()
        self._start(key, counter + int(delta))

    def _start(self, key: int, counter: int) -> None:
        if not 0 <= counter <= _MOST_STEPS * _MOST_DRAWS:
            raise ValueError(f"A counter is from 0 to {_MOST_STEPS * _MOST_DRAWS}, got {counter}")
        scope = _context.scope()
        old = getattr(self, "_handle", None)
        self._session = scope.session
        self._handle = scope.session.new_handle()
        if old is not None:
            self._session.dead.append(old)
        body = _wire.handle_field(1, self._handle) + _wire.number_field(2, key)
        command(_wire.CREATE_GENERATOR, body, scope)
        while counter:
            step = min(counter, _MOST_DRAWS)
            self._draw(step)
            counter -= step

    def normal(
        self,
        shape: Any,
        mean: Any = 0.0,
        stddev: Any = 1.0,
        dtype: Any = dtypes.float32,
        name: str | None = None,
    ) -> Tensor:
        """Returns normal random numbers."""
        return _distributions.normal(self._draw, shape, mean, stddev, dtype)

    def truncated_normal(
        self,
        shape: Any,
        mean: Any = 0.0,
        stddev: Any = 1.0,
        dtype: Any = dtypes.float32,
        name: str | None = None,
    ) -> Tensor:
        """Returns normal random numbers of at most two standard deviations from the mean."""
        return _distributions.truncated_normal(self._draw, shape, mean, stddev, dtype)

    def uniform(
        self,
        shape: Any,
        minval: Any = 0,
        maxval: Any = None,
        dtype: Any = dtypes.float32,
        name: str | None = None,
    ) -> Tensor:
        """Returns uniform random numbers from `minval` up to but not including `maxval`."""
        return _distributions.uniform(self._draw, shape, minval, maxval, dtype)

    def uniform_full_int(
        self, shape: Any, dtype: Any = dtypes.int64, name: str | None = None
    ) -> Tensor:
        """Returns uniform random integers of the whole range of a dtype."""
        return _distributions.full_range(self._draw, integers(shape), dtypes.as_dtype(dtype))

    def binomial(
        self,
        shape: Any,
        counts: Any,
        probs: Any,
        dtype: Any = dtypes.int32,
        name: str | None = None,
    ) -> Tensor:
        """Returns numbers of successes; see `stateless_binomial`."""
        return _distributions.binomial(self._draw, shape, counts, probs, dtype)

    def make_seeds(self, count: int = 1) -> Tensor:
        """Returns seeds for stateless functions, one in each column."""
        numbers = self.uniform_full_int((count,))
        return _ops.stack([numbers, _ops.zeros_like(numbers)], axis=0)  # type: ignore[no-any-return]

    def split(self, count: int = 1) -> list[Generator]:
        """Returns generators whose numbers have nothing to do with each other or with this one."""
        keys = self.uniform_full_int((count,)).numpy().tolist()
        return [Generator(state=(0, 0, key)) for key in keys]

    def _draw(self, count: int) -> Tensor:
        """Takes the state for `count` numbers and moves the generator on."""
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
        self._generators: dict[int | None, Generator] = {}

    def set_seed(self, seed: int) -> None:
        with self._lock:
            self.seed = int(seed)
            self._generators.clear()

    def replace(self, generator: Generator) -> None:
        with self._lock:
            self._generators[None] = generator

    def generator(self, seed: int | None) -> Generator:
        session = _context.scope().session
        with self._lock:
            found = self._generators.get(seed)
            if found is None or found._session is not session:
                if seed is not None:
                    key = mix(self.seed or 0, seed)
                else:
                    key = secrets.randbits(63) if self.seed is None else self.seed
                found = self._generators[seed] = Generator.from_seed(key)
            return found


_global = _Global()


def set_seed(seed: int) -> None:
    """Makes the functions of this module start again from a seed."""
    _global.set_seed(seed)


def global_generator(seed: int | None) -> Generator:
    """Returns the generator of functions that take none, or that of one of their seeds."""
    return _global.generator(seed)


def get_global_generator() -> Generator:
    """Returns the generator that the functions of this module draw from."""
    return _global.generator(None)


def set_global_generator(generator: Generator) -> None:
    """Makes the functions of this module draw from a generator."""
    _global.replace(generator)


def stateless(seed: Any) -> Draw:
    """Returns what gives the numbers of a seed, two integers, and always the same."""
    # The second integer is no counter: numbers of (1, 2) and (1, 3) must not overlap.
    key = mix(*_pair(seed))
    return lambda _: constant(np.array([key, 0], np.int64))


def mix(first: int, second: int) -> int:
    """Returns a well-mixed key of two integers."""
    data = struct.pack("<2Q", first & _WORD, second & _WORD)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


_WORD = 0xFFFF_FFFF_FFFF_FFFF


def as_int64(number: Any) -> int:
    """Returns an integer within the range of int64, as the bits of a larger one."""
    return (int(number) + 2**63) % 2**64 - 2**63


def create_rng_state(seed: Any, alg: Any) -> Tensor:
    """Returns the state of the generator of a seed."""
    return constant(np.array([0, 0, as_int64(integers(seed)[0])], np.int64))


def split(seed: Any, num: int = 2, alg: Any = "auto_select") -> Tensor:
    """Returns seeds whose numbers have nothing to do with each other. The seed is fetched.

    Args:
        seed: Two integers.
        num: How many seeds.
        alg: Ignored.
    """
    key = mix(*_pair(seed))
    return _seeds(seed, [(mix(key, 2 * i), mix(key, 2 * i + 1)) for i in range(int(num))])


def fold_in(seed: Any, data: Any, alg: Any = "auto_select") -> Tensor:
    """Returns another seed that depends on one, and on a number. Both are fetched.

    Args:
        seed: Two integers.
        data: The number.
        alg: Ignored.
    """
    key = mix(mix(*_pair(seed)), integers(data)[0])
    return _seeds(seed, [(mix(key, 0), mix(key, 1))])[0]


def _seeds(like: Any, pairs: list[tuple[int, int]]) -> Tensor:
    """Seeds of the dtype of another one, of which a smaller dtype keeps the lower bits."""
    dtype = like.dtype if isinstance(like, Value) else dtypes.int32
    numbers = np.array(pairs, np.int64).astype(dtype.as_numpy_dtype)
    return constant(numbers.reshape(-1, 2))


def _pair(seed: Any) -> tuple[int, int]:
    pair = integers(seed)
    if len(pair) != 2:
        raise ValueError(f"A seed of the stateless functions is two integers, got {seed}")
    return pair[0], pair[1]
