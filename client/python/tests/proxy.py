"""A TCP proxy that loses its connections at chosen points."""

from __future__ import annotations

import contextlib
import random
import socket
import threading

# More than it takes to open a session, in both directions.
_OPENING_BYTES = 2_000


class CuttingProxy:
    """Forwards to a server and cuts each connection after a random number of bytes.

    Args:
        target: Address of the server.
        seed: Seed of the points.
        cuts: How many connections are cut; the later ones live on.
        largest: At most so many bytes pass before a cut, in either direction.
    """

    def __init__(self, target: str, seed: int, cuts: int, largest: int) -> None:
        self.lead_to(target)
        self._random = random.Random(seed)
        self._left = cuts
        self._largest = largest
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        # How much may still pass through each connection; negative for all.
        self._budgets: list[list[int]] = []
        self._closed = False
        self.cut = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, target: str) -> None:
        """Leads new connections to another server."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))

    def cut_after(self, size: int) -> None:
        """Cuts the connections that there are after so many more bytes, in either direction."""
        with self._lock:
            for budget in self._budgets:
                budget[0] = size

    def close(self) -> None:
        """Ends all connections and takes no more."""
        with self._lock:
            self._closed = True
            sockets = [self._listener, *self._open]
        for each in sockets:
            _end(each)

    def _accept(self) -> None:
        first = True
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                _end(client)
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                if self._closed:
                    _end(client)
                    _end(server)
                    return
                self._open |= {client, server}
                budget = [self._random.randrange(1, self._largest) if self._left > 0 else -1]
                if first and budget[0] > 0:
                    # A program that cannot open its session is told so, and has nothing to lose.
                    budget[0] += _OPENING_BYTES
                first = False
                self._budgets.append(budget)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pump, args=(source, sink, budget), daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, budget: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4_096):
                with self._lock:
                    end = self._take(budget, len(data))
                if end is None:
                    sink.sendall(data)
                    continue
                with contextlib.suppress(OSError):
                    sink.sendall(data[:end])
                break
        with self._lock:
            self._open -= {source, sink}
        _end(source)
        _end(sink)

    def _take(self, budget: list[int], size: int) -> int | None:
        """Returns how much of the data may still pass if the connection ends within it."""
        if budget[0] < 0:
            return None
        if size < budget[0]:
            budget[0] -= size
            return None
        end, budget[0] = budget[0], 0
        if end:
            self.cut += 1
            self._left -= 1
        return end


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
