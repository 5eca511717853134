"""A session's commands on their way: sent, applied, durable.

If the server keeps a log of the session, a batch stays here until it is durable: a server that died
comes back to what its log holds, and what it lost is sent again. Otherwise it stays until it is
applied. Nothing here waits or knows the network; the session guards it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradtape import errors
from gradtape._call import Batch

if TYPE_CHECKING:
    from gradtape._proto import command_pb2, tape_service_pb2


class Window:
    """The batches that may have to be sent again, and what is on its way."""

    def __init__(self) -> None:
        self.next_sequence = 1
        # The last command that was ever seen applied, and the last that the server, as it stands,
        # is known to have applied.
        self.applied = 0
        self.standing = 0
        # The last durable command; None if the server keeps no log of the session.
        self.durable: int | None = None
        # What is on its way: the credit that is used.
        self.commands = 0
        self.size = 0
        self._batches: deque[Batch] = deque()

    def add(self, entries: list[bytes]) -> Batch:
        """Numbers entries that are about to be sent."""
        batch = Batch(self.next_sequence, entries)
        self.next_sequence += batch.count
        self._batches.append(batch)
        self.sending(batch)
        return batch

    def sending(self, batch: Batch) -> None:
        """Counts a batch that is about to be sent, perhaps again."""
        self.commands += batch.count
        self.size += len(batch.data)

    def attach(self, welcome: tape_service_pb2.Welcome) -> None:
        """Learns where the server stands on a new connection."""
        first = self._batches[0].first if self._batches else self.next_sequence
        if not welcome.HasField("rewound_to"):
            first = max(first, self.standing + 1)
        if not first <= welcome.next_sequence <= self.next_sequence:
            raise errors.DataLossError(
                f"the server expects command {welcome.next_sequence}, "
                f"this client has {first} to {self.next_sequence}"
            )
        self.standing = min(self.standing, welcome.next_sequence - 1)
        self.commands = self.size = 0
        if welcome.HasField("durable_sequence"):
            self.durable = welcome.durable_sequence
        self._forget()

    def resend(self) -> Iterator[Batch]:
        """What the server, as it stands, has not applied or not answered."""
        for batch in list(self._batches):
            if batch.last <= self.standing:
                continue
            done = max(0, self.standing + 1 - batch.first)
            yield Batch(batch.first + done, batch.entries[done:]) if done else batch

    def take(self, reply: command_pb2.BatchReply) -> None:
        """Learns what is applied and durable."""
        for batch in self._batches:
            if self.standing < batch.last <= reply.applied_sequence:
                done = max(0, self.standing + 1 - batch.first)
                self.commands -= batch.count - done
                self.size -= len(batch.data) - sum(map(len, batch.entries[:done]))
                self.standing = batch.last
        self.applied = max(self.applied, self.standing)
        if reply.HasField("durable_sequence"):
            self.durable = reply.durable_sequence
        self._forget()

    def entry(self, sequence: int) -> bytes | None:
        """The entry with a number, if it is still here."""
        for batch in self._batches:
            if batch.first <= sequence <= batch.last:
                return batch.entries[sequence - batch.first]
        return None

    def _forget(self) -> None:
        batches, kept = self._batches, self.standing
        if self.durable is not None:
            kept = min(kept, self.durable)
        while batches and batches[0].last <= kept:
            batches.popleft()
