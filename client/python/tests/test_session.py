"""Sessions over real sockets: lost connections, threads, large tensors, errors and credit."""

from __future__ import annotations

import contextlib
import inspect
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from proxy import CuttingProxy

import gradtape as tf
from gradtape import _context, _server, _session, _stream
from gradtape._notices import report
from gradtape._proto import (
    session_service_pb2,
    session_service_pb2_grpc,
    tape_service_pb2,
)
from gradtape._session import Session


def train(steps: int) -> tuple[float, float]:
    """The tutorial's loop, which looks at its loss now and then."""
    x = np.arange(10)
    y = 2 * x - 1
    w, b = tf.Variable(0.1), tf.Variable(0.1)
    for i in range(steps):
        with tf.GradientTape(persistent=True) as g:
            loss = tf.abs(y - (w * x + b))
        dw, db = g.gradient(loss, w), g.gradient(loss, b)
        w.assign_sub(0.001 * dw)
        b.assign_sub(0.001 * db)
        if i % 3 == 0:
            assert loss.numpy().shape == (10,)
    return float(w.numpy()), float(b.numpy())


# === Notices ===


def test_what_the_server_says_of_the_session_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    kinds = tape_service_pb2.Notice
    with caplog.at_level("DEBUG", "gradtape"):
        report(kinds(kind=kinds.KIND_EXPIRES, remaining_ms=90_000))
        report(kinds(kind=kinds.KIND_PARKED))
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "DEBUG"]
    assert "in 90 s" in caplog.text


# === Lost connections ===


@pytest.mark.parametrize("seed", range(10))
def test_cuts_change_nothing(address: str, seed: int) -> None:
    """Ten runs with twenty cuts each, at random bytes of either direction."""
    tf.connect(address)
    expected = train(300)
    proxy = CuttingProxy(address, seed, cuts=20, largest=12_000)
    try:
        tf.connect(proxy.address)
        assert train(300) == expected
        assert proxy.cut == 20
        tf.disconnect()
    finally:
        proxy.close()


def test_a_server_that_does_not_come_back(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stream, "_ATTACH_ATTEMPTS", 3)
    proxy = CuttingProxy(address, 0, cuts=0, largest=1)
    tf.connect(proxy.address)
    x = tf.constant(2.0)
    assert x.numpy() == 2.0
    proxy.close()
    with pytest.raises(tf.errors.UnavailableError):
        (x * x).numpy()
    # And again at once, for everything that is tried later.
    with pytest.raises(tf.errors.UnavailableError):
        (x * x).numpy()
    tf.connect(address)
    assert (tf.constant(2.0) * 2.0).numpy() == 4.0


def ended(address: str, session: Session) -> bool:
    """Says whether the server has forgotten a session."""
    request = session_service_pb2.GetSessionRequest(credentials=session.credentials)
    with grpc.insecure_channel(address) as channel:
        try:
            session_service_pb2_grpc.SessionServiceStub(channel).GetSession(request)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
            return True
    return False


@pytest.mark.parametrize("size", range(1, 500, 25))
def test_a_session_whose_connection_is_lost_as_it_ends_is_deleted(
    address: str, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    proxy = CuttingProxy(address, 0, cuts=0, largest=1)
    try:
        tf.connect(proxy.address)
        session = _context.session()
        tf.synchronize()
        assert not ended(address, session)
        proxy.cut_after(size)
        tf.constant([1.0, 2.0]) + tf.constant([1.0, 2.0, 3.0])
        tf.disconnect()
        assert ended(address, session)
        # What was left got through, perhaps on another connection.
        assert "1 operations failed" in capsys.readouterr().err
    finally:
        proxy.close()


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_session, "_CONNECT_SECONDS", 0.2)
    with pytest.raises(tf.errors.OpError, match=r"cannot open a session at 127\.0\.0\.1:1"):
        tf.connect("127.0.0.1:1")


def test_tensors_of_another_session(address: str) -> None:
    x = tf.constant(2.0)
    tf.connect(address)
    with pytest.raises(tf.errors.NotFoundError, match="another session"):
        x * 2.0


def test_variables_and_tapes_of_another_session(address: str) -> None:
    """Sessions choose the same handles, so these would name something else there."""
    v = tf.Variable(2.0)
    with tf.GradientTape(persistent=True) as tape:
        y = v * v
    tf.connect(address)
    other = tf.Variable(5.0)
    for use in (
        lambda: v.assign(1.0),
        lambda: v.read_value(),
        lambda: other.assign(y),
        lambda: tape.gradient(y, v),
        lambda: tape.gradient(other, other),
        lambda: tape.__enter__(),
        lambda: tf.GradientTape().__enter__().watch(v),
    ):
        with pytest.raises(tf.errors.NotFoundError, match="another session"):
            use()
    assert other.numpy() == 5.0


# === Threads ===


def test_threads_share_a_session() -> None:
    v = tf.Variable(0.0)
    results: dict[int, float] = {}

    def work(number: int) -> None:
        x = tf.constant(float(number))
        for _ in range(20):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = x * x * x
            grad = tape.gradient(y, x)
            v.assign_add(1.0)
        results[number] = float(grad.numpy())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: 3.0 * i * i for i in range(8)}
    assert v.numpy() == 160.0


def test_each_thread_is_told_of_its_own_errors() -> None:
    bad = tf.constant([1.0, 2.0]) + tf.constant([1.0, 2.0, 3.0])
    seen: list[float] = []
    thread = threading.Thread(target=lambda: seen.append((tf.constant(1.0) * 2.0).numpy()))
    thread.start()
    thread.join()
    assert seen == [2.0]
    with pytest.raises(tf.errors.InvalidArgumentError):
        bad.numpy()


# === Large tensors ===


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_more_than_a_mebibyte(dtype: str) -> None:
    array = np.arange(700_000).reshape(700, 1_000).astype(dtype)
    x = tf.constant(array)
    np.testing.assert_array_equal(x.numpy(), array)
    y = x + x
    np.testing.assert_array_equal(y.numpy(), array + array)
    assert y.shape == (700, 1_000)


@pytest.mark.parametrize("elements", [(1 << 18) - 1, 1 << 18, (1 << 18) + 1])
def test_around_a_mebibyte(elements: int) -> None:
    array = np.arange(elements, dtype=np.float32)
    np.testing.assert_array_equal((tf.constant(array) * 1.0).numpy(), array)


def test_many_large_constants_wait_for_each_other() -> None:
    total = tf.constant(np.zeros(200_000, np.float32))
    for i in range(40):
        total = total + tf.constant(np.full(200_000, i, np.float32))
    assert total.numpy()[[0, -1]].tolist() == [780.0, 780.0]


# === Errors ===


def test_an_error_names_op_shapes_and_line() -> None:
    x, y = tf.constant([1.0, 2.0]), tf.constant([1.0, 2.0, 3.0])
    z = x + y
    line = inspect.currentframe().f_lineno - 1
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        z.numpy()
    for part in ("add", "float32[2]", "float32[3]", f"test_session.py:{line}"):
        assert part in str(caught.value)


def test_an_error_of_an_input_tells_its_root() -> None:
    x = tf.constant([1.0, 2.0]) + tf.constant([1.0, 2.0, 3.0])
    line = inspect.currentframe().f_lineno - 1
    y = -x
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"test_session.py:{line}"):
        y.numpy()
    with pytest.raises(tf.errors.OpError, match=f"test_session.py:{line}"):
        y.numpy()
    # The session goes on.
    assert (tf.constant(2.0) * 3.0).numpy() == 6.0


def test_synchronize_raises_what_nobody_read() -> None:
    _ = tf.constant([1.0, 2.0]) + tf.constant([1.0, 2.0, 3.0])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[2\]"):
        tf.synchronize()
    tf.synchronize()


def test_dtypes_are_not_promoted() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="float32"):
        tf.constant(1.0) * tf.constant(1)


# === Ctrl-C ===


def test_ctrl_c_cancels_what_is_waited_for(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = tf.Variable(3.0)
    x = tf.ones((4096, 4096))
    y = x
    for _ in range(8):
        y = x @ y
    w.assign_add(tf.reduce_mean(y))

    cancelling = session._cancelling

    @contextlib.contextmanager
    def interrupted() -> Iterator[None]:
        # Where Python raises it when the signal comes during the wait.
        with cancelling():
            monkeypatch.undo()
            raise KeyboardInterrupt
            yield

    monkeypatch.setattr(session, "_cancelling", interrupted)
    with pytest.raises(KeyboardInterrupt):
        y.numpy()
    with pytest.raises(tf.errors.OpError, match="cancelled"):
        y.numpy()
    # Nobody is told again, and the session goes on.
    tf.synchronize()
    assert (w + 1.0).numpy() == 4.0


# === Credit and order ===


def test_a_program_far_ahead_of_the_server(session: Session) -> None:
    """Many times the credit, and no reply in between."""
    x = tf.Variable(0.0)
    for _ in range(3 * session._credit_commands):
        x.assign_add(1.0)
    assert x.numpy() == 3.0 * session._credit_commands


def test_little_credit(session: Session) -> None:
    session._credit_commands = 7
    session._credit_bytes = 1_000
    x = tf.Variable(0.0)
    for i in range(200):
        x.assign_add(np.full((), i, np.float32))
    x.assign_add(tf.reduce_sum(tf.constant(np.ones(1_000, np.float32))))
    assert x.numpy() == 200 * 199 / 2 + 1_000
    assert 0 <= session._window.commands <= 7
    assert 0 <= session._window.size <= 5_000


def test_dead_tensors_are_released(session: Session) -> None:
    """A long loop does not use up handles: the ones of dead tensors come again."""
    x = tf.constant(1.0)
    for _ in range(20_000):
        x = x * 1.0
    assert x.numpy() == 1.0
    assert len(session._free) + len(session.dead) < 20_000


def test_errors_surface_without_a_wait(session: Session) -> None:
    """What is pending leaves by itself, though nobody asks for anything."""
    _ = tf.constant([1.0, 2.0]) + tf.constant([1.0, 2.0, 3.0])
    deadline = time.monotonic() + 10.0
    with session._state:
        while not session._unreported and time.monotonic() < deadline:
            session._state.wait(1.0)
        assert session._unreported
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.synchronize()


# === The server of our own ===


def test_a_program_without_an_address_brings_its_own_server() -> None:
    try:
        _server.find()
    except tf.errors.UnavailableError:
        pytest.skip("there is only the server at GRADTAPE_ADDRESS")
    program = "import gradtape as tf; print((tf.constant(2.0) * 3.0).numpy())"
    environment = {k: v for k, v in os.environ.items() if k != "GRADTAPE_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "6.0\n"
    assert done.stderr == ""


def test_unread_failures_are_reported_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    _ = tf.constant([1.0, 2.0]) + tf.constant([1.0, 2.0, 3.0])
    tf.disconnect()
    assert "1 operations failed" in capfd.readouterr().err
    assert _context.session() is not None


def test_a_program_that_runs_ahead_does_not_fill_the_servers_memory() -> None:
    # 1.5 GB in all, and a session may hold 1 GiB: what the program dropped must be gone in time.
    x = tf.ones((512, 512))
    for _ in range(1_500):
        y = x + 1.0
    assert y[0, 0].numpy() == 2.0
