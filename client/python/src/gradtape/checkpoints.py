"""Checkpoints on the server: the state of sessions in files of the format safetensors.

    tf.checkpoints.save("monday", metadata={"epoch": 3})
    tf.checkpoints.restore("monday")          # in this session or another
    tf.checkpoints.download("monday", "monday.safetensors")

A checkpoint belongs to whoever saved it and outlives the session. `tf.train.Checkpoint` is made of
these.
"""

from __future__ import annotations

import builtins
import dataclasses
import datetime
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from gradtape import _context, _wire
from gradtape._channel import from_status
from gradtape._proto import (
    checkpoint_pb2,
    checkpoint_service_pb2 as proto,
    checkpoint_service_pb2_grpc,
    tensor_pb2,
)
from gradtape._session import Session
from gradtape.module import Module
from gradtape.random import Generator
from gradtape.variable import Variable

_CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, from outside.

    Attributes:
        name: Its name.
        size_bytes: Size of its file.
        time: When it was written.
    """

    name: str
    size_bytes: int
    time: datetime.datetime


@dataclasses.dataclass(frozen=True)
class Description:
    """What a checkpoint holds.

    Attributes:
        checkpoint: The checkpoint.
        tensors: Dtype and shape of each tensor, by key.
        metadata: The remarks of whoever saved it, and the server's, which begin with "gradtape.".
    """

    checkpoint: Checkpoint
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    metadata: dict[str, str]


def save(
    name: str,
    objects: Mapping[str, Any] | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Checkpoint:
    """Saves the state after all operations so far.

    Args:
        name: Letters, digits, ".", "_" and "-", a letter or digit first.
        objects: What to save, by key: variables, optimizers, generators, layers, modules, and lists
            and dictionaries of them. None saves everything that the session has.
        metadata: Remarks, such as the epoch.
        overwrite: Whether a checkpoint of the same name is replaced.
    """
    scope = _context.scope()
    session = scope.session
    session.sync(scope.number, scope.tail())
    request = proto.SaveCheckpointRequest(
        credentials=session.credentials,
        name=name,
        after_sequence=session.applied,
        entries=_entries(session, objects),
        metadata={key: str(value) for key, value in (metadata or {}).items()},
        overwrite=overwrite,
    )
    return _checkpoint(_ask("SaveCheckpoint", request).checkpoint)


def restore(
    name: str,
    objects: Mapping[str, Any] | None = None,
    *,
    weights_only: bool = False,
    partial: bool = False,
) -> dict[str, str]:
    """Returns to a checkpoint, to the bit: completely or, if anything does not fit, not at all.

    Args:
        name: Its name.
        objects: What to restore, by key, as for `save`.
        weights_only: Leaves optimizers and generators alone: for files of other programs.
        partial: Leaves alone what only the checkpoint or only the session has.

    Returns:
        The checkpoint's metadata.

    Raises:
        FailedPreconditionError: Something does not fit; the message lists everything.
    """
    scope = _context.scope()
    session = scope.session
    upload = session.new_upload()
    found = [*walk(objects or {})]
    loaded = _ask(
        "LoadCheckpoint",
        proto.LoadCheckpointRequest(credentials=session.credentials, name=name, upload=upload),
    )
    request = checkpoint_pb2.RestoreCheckpoint(
        upload=upload,
        entries=_entries(session, objects),
        weights_only=weights_only,
        partial=partial,
    )
    call = session.call(_wire.RESTORE_CHECKPOINT, request.SerializeToString(), scope.tail())
    session.wait(call, scope.number)
    if not weights_only:
        for _, thing in found:
            if hasattr(thing, "_resume"):
                thing._resume()
    return dict(loaded.metadata)


def list() -> builtins.list[Checkpoint]:
    """Returns the caller's checkpoints, by name."""
    found: Any = []
    token = ""
    while True:
        page = _ask("ListCheckpoints", proto.ListCheckpointsRequest(page_token=token))
        found.extend(map(_checkpoint, page.checkpoints))
        token = page.next_page_token
        if not token:
            return found


def describe(name: str) -> Description:
    """Returns what a checkpoint holds, without its elements."""
    answer = _ask("GetCheckpoint", proto.GetCheckpointRequest(name=name))
    tensors = {
        tensor.key: (
            tensor_pb2.DataType.Name(tensor.spec.dtype).removeprefix("DATA_TYPE_").lower(),
            tuple(tensor.spec.shape),
        )
        for tensor in answer.tensors
    }
    return Description(_checkpoint(answer.checkpoint), tensors, dict(answer.metadata))


def delete(name: str) -> None:
    """Deletes a checkpoint."""
    _ask("DeleteCheckpoint", proto.DeleteCheckpointRequest(name=name))


def download(name: str, path: str | os.PathLike[str] | None = None) -> bytes:
    """Returns a checkpoint's file, and writes it to a path if one is given."""
    data = bytearray()
    try:
        for part in _stub().DownloadCheckpoint(proto.DownloadCheckpointRequest(name=name)):
            data += part.chunk
    except grpc.RpcError as error:
        raise from_status(error) from None
    if path is not None:
        Path(path).write_bytes(data)
    return bytes(data)


def upload(
    name: str, file: bytes | str | os.PathLike[str], *, overwrite: bool = False
) -> Checkpoint:
    """Sends a file of the format safetensors, of this server or of any program.

    Args:
        name: Name of the checkpoint.
        file: The file's content, or its path.
        overwrite: Whether a checkpoint of the same name is replaced.
    """
    data = file if isinstance(file, bytes) else Path(file).read_bytes()
    header = proto.UploadCheckpointHeader(name=name, size_bytes=len(data), overwrite=overwrite)

    def requests() -> Iterator[proto.UploadCheckpointRequest]:
        yield proto.UploadCheckpointRequest(header=header)
        for start in range(0, len(data), _CHUNK_BYTES):
            yield proto.UploadCheckpointRequest(chunk=data[start : start + _CHUNK_BYTES])

    return _checkpoint(_ask("UploadCheckpoint", requests()).checkpoint)


def walk(objects: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the key of each variable, optimizer and generator in objects, each once."""
    seen: set[int] = set()
    for key, thing in objects.items():
        yield from _walk(key, thing, seen)


def _walk(key: str, thing: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    from gradtape.keras.layers.base import Layer
    from gradtape.keras.optimizers import LossScaleOptimizer, Optimizer
    from gradtape.keras.saving import paths

    if isinstance(thing, LossScaleOptimizer):
        thing = thing.inner_optimizer
    if id(thing) in seen:
        return
    seen.add(id(thing))
    inside: Iterable[tuple[Any, Any]]
    if isinstance(thing, (Variable, Optimizer, Generator)):
        yield key, thing
        return
    if isinstance(thing, Layer):
        optimizer = getattr(thing, "optimizer", None)
        inside = [*paths(thing), *([] if optimizer is None else [("optimizer", optimizer)])]
    elif isinstance(thing, Module):
        inside = ((name, value) for name, value in sorted(vars(thing).items()) if _holds(value))
    elif isinstance(thing, Mapping):
        inside = thing.items()
    elif isinstance(thing, (tuple, builtins.list)):
        inside = enumerate(thing)
    elif hasattr(thing, "_checkpoint_objects"):
        inside = thing._checkpoint_objects().items()
    else:
        raise ValueError(
            f"{key} cannot be saved: {type(thing).__name__} is neither a variable, optimizer, "
            "generator, layer or module, nor a list or dictionary of them."
        )
    for name, value in inside:
        yield from _walk(f"{key}/{name}", value, seen)


def _holds(value: Any) -> bool:
    """Says whether an attribute of a module is something to save, or has it inside."""
    from gradtape.keras.optimizers import Optimizer

    if isinstance(value, Mapping):
        return any(map(_holds, value.values()))
    if isinstance(value, (tuple, builtins.list)):
        return any(map(_holds, value))
    return isinstance(value, (Variable, Module, Optimizer, Generator))


def _entries(
    session: Session, objects: Mapping[str, Any] | None
) -> builtins.list[checkpoint_pb2.CheckpointEntry] | None:
    if objects is None:
        return None
    entries = []
    for key, thing in walk(objects):
        if thing._session is not session:
            raise ValueError(f"{key} belongs to another session")
        handle = _wire.read_varint(thing._handle)
        entries.append(checkpoint_pb2.CheckpointEntry(handle=handle, key=key))
    if not entries:
        # The server would take none for all.
        raise ValueError("There is nothing to save or restore: build the model first.")
    return entries


def _stub() -> Any:
    return checkpoint_service_pb2_grpc.CheckpointServiceStub(_context.session().channel)


def _ask(method: str, request: Any) -> Any:
    try:
        return getattr(_stub(), method)(request)
    except grpc.RpcError as error:
        raise from_status(error) from None


def _checkpoint(message: proto.Checkpoint) -> Checkpoint:
    time = message.update_time.ToDatetime(datetime.timezone.utc)
    return Checkpoint(message.name, message.size_bytes, time)
