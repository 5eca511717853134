"""What the server says of a session beside its answers."""

from __future__ import annotations

import logging

from gradtape._proto import tape_service_pb2

_log = logging.getLogger("gradtape")


def report(notice: tape_service_pb2.Notice) -> None:
    """Logs a notice."""
    if notice.kind == tape_service_pb2.Notice.KIND_EXPIRES:
        seconds = notice.remaining_ms / 1000
        _log.warning("the server will end the session in %.0f s unless it is used", seconds)
    elif notice.kind == tape_service_pb2.Notice.KIND_PARKED:
        _log.debug("the server keeps the session on its disk until it is used")
