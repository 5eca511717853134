"""What waits in a session: entries whose reply somebody wants, and batches of entries."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gradtape._proto import command_pb2, function_pb2


class Call(bytes):
    """An entry whose command has a reply that somebody wants."""

    reply: command_pb2.Reply | None
    failure: Exception | None
    done: Any
    on_reply: Callable[[command_pb2.Reply], str | None] | None
    # Its place in the session's order, once it has one.
    sequence: int
    # Hears of a loop's reports, in the reader's thread.
    on_progress: Callable[[function_pb2.LoopReport], None] | None
    # Hears that there is a reply or a failure.
    on_done: Callable[[], None] | None

    def __new__(
        cls, entry: bytes, on_reply: Callable[[command_pb2.Reply], str | None] | None = None
    ) -> Call:
        """Makes a call; with `on_reply`, the reader hands the reply to it and nobody waits."""
        self = super().__new__(cls, entry)
        self.reply = self.failure = None
        self.on_reply = on_reply
        self.on_progress = self.on_done = None
        self.sequence = 0
        if on_reply is None:
            self.done = threading.Lock()
            self.done.acquire()
        return self

    def finish(self, reply: command_pb2.Reply | None, failure: Exception | None = None) -> None:
        """Hands over the reply and wakes who waits for it."""
        self.reply, self.failure = reply, failure
        self.done.release()
        if self.on_done is not None:
            self.on_done()


class Batch:
    """Entries that go out together, with the sequence number of the first."""

    __slots__ = ("count", "data", "entries", "first", "last")

    def __init__(self, first: int, entries: list[bytes]) -> None:
        self.first = first
        self.entries = entries
        self.count = len(entries)
        self.last = first + self.count - 1
        self.data = b"".join(entries)
