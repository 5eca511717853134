"""One server for all tests, and a session of its own for each."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import gradtape as tf
from gradtape import _context, _server
from gradtape._session import Session


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server: GRADTAPE_ADDRESS, or one that is started here."""
    named = os.environ.get("GRADTAPE_ADDRESS")
    if named:
        yield named
        return
    with pytest.MonkeyPatch.context() as environment:
        # Not where the user's own checkpoints are.
        store = tmp_path_factory.mktemp("checkpoints")
        environment.setenv("GRADTAPE_CHECKPOINT_STORE", str(store))
        server = _server.LocalServer()
    yield server.address
    server.stop()


@pytest.fixture(autouse=True)
def fresh(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets the test's first operation open a session, and ends it."""
    monkeypatch.setenv("GRADTAPE_ADDRESS", address)
    yield
    tf.disconnect()


@pytest.fixture
def session(fresh: None) -> Session:
    """The session that the test's program runs in."""
    return _context.session()
