"""TensorFlow's checkpoints by its names (`tf.train`), kept on the server, and moving averages.

A path such as "training/ckpt-1" is the server's checkpoint "training--ckpt-1": there are no folders
there, so "/" becomes "--". `tf.checkpoints` has the calls below these, and moves the files.

What is saved are variables, optimizers with their state, and generators. What a program has made
by the time of `restore` is restored; unlike in TensorFlow nothing is kept for what it makes later,
so a model must be built first.
"""

from __future__ import annotations

import datetime
import os
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any

from gradtape import checkpoints, errors
from gradtape.moving_averages import ExponentialMovingAverage
from gradtape.tensor import Value

__all__ = [
    "Checkpoint",
    "CheckpointManager",
    "ExponentialMovingAverage",
    "latest_checkpoint",
    "list_variables",
]

_SEPARATOR = "--"
_COUNTER = "save_counter"


class _Status:
    """What became of a restore, with TensorFlow's assertions."""

    def __init__(self, saved: set[str], wanted: set[str]) -> None:
        self._saved, self._wanted = saved, wanted

    def assert_consumed(self) -> _Status:
        """Raises unless everything in the checkpoint and in the program was restored."""
        self.assert_existing_objects_matched()
        unused = sorted(self._saved - self._wanted)
        if unused:
            raise AssertionError(f"Not in the program: {', '.join(unused)}")
        return self

    def assert_existing_objects_matched(self) -> _Status:
        """Raises unless everything in the program was restored."""
        missing = sorted(self._wanted - self._saved)
        if missing:
            raise AssertionError(f"Not in the checkpoint: {', '.join(missing)}")
        return self

    def assert_nontrivial_match(self) -> _Status:
        """Raises unless anything was restored."""
        if not self._saved & self._wanted:
            raise AssertionError("Nothing in the program is in the checkpoint.")
        return self

    def expect_partial(self) -> _Status:
        """Does nothing: a restore that is not complete draws no warning here."""
        return self


class Checkpoint:
    """Objects that are saved and restored together.

    Args:
        root: An object whose attributes are saved under their own names.
        **kwargs: Objects by name: variables, optimizers, generators, models, layers, modules, and
            lists and dictionaries of them.
    """

    def __init__(self, root: Any = None, **kwargs: Any) -> None:
        self._objects: dict[str, Any] = {} if root is None else {"root": root}
        self._objects.update(kwargs)
        for name, thing in kwargs.items():
            setattr(self, name, thing)
        # Checks the types at once.
        self._keys()
        self._saves = 0

    def _checkpoint_objects(self) -> Mapping[str, Any]:
        return self._objects

    def _keys(self) -> set[str]:
        return {key for key, _ in checkpoints.walk(self._objects)}

    @property
    def save_counter(self) -> int:
        """How many times `save` was called, in the runs before too."""
        return self._saves

    def write(self, file_prefix: Any, options: Any = None) -> str:
        """Saves under exactly this path, replacing what is there, and returns it."""
        return self._write(os.fspath(file_prefix))

    def save(self, file_prefix: Any, options: Any = None) -> str:
        """Saves under this path with "-1", "-2" and so on behind it, and returns it."""
        self._saves += 1
        return self._write(f"{os.fspath(file_prefix)}-{self._saves}")

    def _write(self, path: str) -> str:
        metadata = {_COUNTER: self._saves}
        checkpoints.save(server_name(path), self._objects, metadata=metadata, overwrite=True)
        return path

    def read(self, save_path: Any, options: Any = None) -> _Status:
        """Restores what `write` saved."""
        return self._read(save_path)[0]

    def restore(self, save_path: Any, options: Any = None) -> _Status:
        """Restores what `save` saved, and the count of saves. None restores nothing."""
        if save_path is None:
            return _Status(set(), set())
        status, metadata = self._read(save_path)
        self._saves = int(metadata.get(_COUNTER, self._saves))
        return status

    def _read(self, save_path: Any) -> tuple[_Status, dict[str, str]]:
        name = server_name(os.fspath(save_path))
        metadata = checkpoints.restore(name, self._objects, partial=True)
        return _Status(_things(checkpoints.describe(name)), self._keys()), metadata


class CheckpointManager:
    """Keeps the newest checkpoints and deletes older ones.

    Args:
        checkpoint: The objects.
        directory: Where: the first part of the checkpoints' paths.
        max_to_keep: How many to keep; None keeps all.
        keep_checkpoint_every_n_hours: Of those that would be deleted, keeps one in so many hours.
        checkpoint_name: What the paths go on with.
        step_counter: A variable that counts steps, for `checkpoint_interval`.
        checkpoint_interval: Saves only if so many steps were made since the last.
        init_fn: Called by `restore_or_initialize` if there is nothing to restore.
        last_checkpoint_step: The step of the last checkpoint, if it was saved elsewhere.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        directory: Any,
        max_to_keep: int | None,
        keep_checkpoint_every_n_hours: float | None = None,
        checkpoint_name: str = "ckpt",
        step_counter: Any = None,
        checkpoint_interval: int | None = None,
        init_fn: Callable[[], None] | None = None,
        last_checkpoint_step: int | None = None,
    ) -> None:
        if max_to_keep is not None and max_to_keep <= 0:
            raise ValueError(
                f"Expected a positive integer or `None` for `max_to_keep`, got {max_to_keep}."
            )
        if checkpoint_interval is not None and step_counter is None:
            raise ValueError(
                "`step_counter` should be passed if `checkpoint_interval` is not None."
            )
        self.checkpoint = checkpoint
        self._directory, self._name = os.fspath(directory), checkpoint_name
        self._max_to_keep, self._hours = max_to_keep, keep_checkpoint_every_n_hours
        self._step_counter, self._interval = step_counter, checkpoint_interval
        self._init_fn, self._last_step = init_fn, last_checkpoint_step
        # When the last of those was written that are kept for good.
        self._preserved = datetime.datetime.now(datetime.timezone.utc)

    @property
    def directory(self) -> str:
        """The first part of the checkpoints' paths."""
        return self._directory

    @property
    def checkpoint_interval(self) -> int | None:
        """The number of steps between checkpoints."""
        return self._interval

    @property
    def checkpoints(self) -> list[str]:
        """The paths of the checkpoints, from the oldest to the newest."""
        return [path for path, _ in _found(self._directory, self._name)]

    @property
    def latest_checkpoint(self) -> str | None:
        """The path of the newest checkpoint, if there is one."""
        paths = self.checkpoints
        return paths[-1] if paths else None

    def save(
        self,
        checkpoint_number: Any = None,
        check_interval: bool = True,
        options: Any = None,
    ) -> str | None:
        """Saves, and deletes what is too old.

        Args:
            checkpoint_number: The number behind the name; without one they are counted.
            check_interval: Whether `checkpoint_interval` is heeded.
            options: Ignored.

        Returns:
            The path, or None if the interval is not over.
        """
        step = None if self._step_counter is None else _number(self._step_counter)
        too_early = (
            self._interval is not None
            and self._last_step is not None
            and step is not None
            and step < self._last_step + self._interval
        )
        if check_interval and too_early:
            return None
        prefix = posixpath.join(self._directory, self._name)
        if checkpoint_number is None:
            path = self.checkpoint.save(prefix)
        else:
            path = self.checkpoint.write(f"{prefix}-{_number(checkpoint_number)}")
        self._last_step = step
        self._sweep()
        return path

    def restore_or_initialize(self) -> str | None:
        """Restores the newest checkpoint and returns its path, or calls `init_fn`."""
        latest = self.latest_checkpoint
        if latest is not None:
            self.checkpoint.restore(latest)
            self._last_step = None if self._step_counter is None else _number(self._step_counter)
        elif self._init_fn is not None:
            self._init_fn()
        return latest

    def _sweep(self) -> None:
        if self._max_to_keep is None:
            return
        for path, time in _found(self._directory, self._name)[: -self._max_to_keep]:
            hours = (time - self._preserved).total_seconds() / 3600
            if self._hours is not None and hours >= self._hours:
                self._preserved = time
            elif self._hours is None or time > self._preserved:
                checkpoints.delete(server_name(path))


def latest_checkpoint(checkpoint_dir: Any, latest_filename: Any = None) -> str | None:
    """Returns the path of the newest checkpoint of a directory, or None."""
    found = _found(os.fspath(checkpoint_dir))
    return found[-1][0] if found else None


def list_variables(ckpt_dir_or_file: Any) -> list[tuple[str, list[int]]]:
    """Returns the keys and shapes of a checkpoint's tensors, or of a directory's newest one's."""
    path = os.fspath(ckpt_dir_or_file)
    try:
        found = checkpoints.describe(server_name(path))
    except errors.NotFoundError:
        latest = latest_checkpoint(path)
        if latest is None:
            raise
        found = checkpoints.describe(server_name(latest))
    return [(key, list(shape)) for key, (_, shape) in sorted(found.tensors.items())]


def server_name(path: str) -> str:
    """Returns the name that a path has on the server."""
    name = posixpath.normpath(path).lstrip("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", name) or _SEPARATOR in name:
        raise ValueError(
            f"{path!r} cannot be the path of a checkpoint: it has letters, digits, '.', '_', '-' "
            f"and '/', begins with a letter or digit, and has no '{_SEPARATOR}'."
        )
    return name.replace("/", _SEPARATOR)


def _found(directory: str, name: str | None = None) -> list[tuple[str, datetime.datetime]]:
    """Paths and times of a directory's checkpoints, from the oldest to the newest."""
    prefix = server_name(directory) + _SEPARATOR
    number = re.compile(r"(.*)-(\d+)")
    found = []
    for checkpoint in checkpoints.list():
        rest = checkpoint.name.removeprefix(prefix)
        if rest == checkpoint.name or _SEPARATOR in rest:
            continue
        match = number.fullmatch(rest)
        if name is not None and (match is None or match[1] != name):
            continue
        order = (checkpoint.time, int(match[2]) if match else 0)
        found.append((order, posixpath.join(directory, rest)))
    return [(path, order[0]) for order, path in sorted(found)]


def _things(description: checkpoints.Description) -> set[str]:
    """The keys of variables, optimizers and generators in a checkpoint."""
    import json

    optimizers = json.loads(description.metadata.get("gradtape.optimizers", "{}"))
    below = tuple(f"{key}." for key in optimizers)
    variables = {key for key in description.tensors if not key.startswith(below)}
    return variables | set(optimizers)


def _number(value: Any) -> int:
    return int(value.numpy() if isinstance(value, Value) else value)
