"""Programs go on over the death of their server, if it keeps logs of its sessions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from proxy import CuttingProxy

import gradtape as tf
from gradtape import _server, errors


class Mortal:
    """A server with a session store that can be killed and comes back, behind one address."""

    def __init__(self) -> None:
        self._server = _server.LocalServer()
        self._proxy = CuttingProxy(self._server.address, 0, cuts=0, largest=1)
        self.address = self._proxy.address

    def die(self) -> None:
        """Kills it as `kill -9` does, and starts it again."""
        self._server.process.kill()
        self._server.process.wait()
        self._server = _server.LocalServer()
        self._proxy.lead_to(self._server.address)

    def stop(self) -> None:
        self._server.stop()
        self._proxy.close()


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mortal]:
    monkeypatch.setenv("GRADTAPE_SESSION_STORE", str(tmp_path / "sessions"))
    server = Mortal()
    yield server
    tf.disconnect()
    server.stop()


def train(steps: int, mortal: Mortal | None = None, deaths: frozenset[int] = frozenset()) -> list:
    """A small model with Adam, a function, random numbers, a large constant and a failure."""
    tf.random.set_seed(5)
    large = tf.constant(np.arange(400_000, dtype=np.float32) / 1e6)
    x = tf.random.normal([8, 3]) + tf.reduce_mean(large)
    y = tf.random.normal([8, 1])
    w = tf.Variable(tf.zeros([3, 1]))
    optimizer = tf.keras.optimizers.Adam(0.01)

    @tf.function
    def loss_of(w: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.square(tf.matmul(x, w) - y))

    losses = []
    for step in range(steps):
        with tf.GradientTape() as tape:
            loss = loss_of(w)
        optimizer.apply_gradients([(tape.gradient(loss, w), w)])
        if mortal is not None and step in deaths:
            mortal.die()
        if step % 7 == 0:
            losses.append(float(loss.numpy()))
        if step % 31 == 30:
            with pytest.raises(errors.InvalidArgumentError):
                (w + tf.zeros([7, 7])).numpy()
        if mortal is not None and step % 20 == 19:
            tf.synchronize("durable")
    return [*losses, *w.numpy().ravel().tolist(), *tf.random.normal([3]).numpy().tolist()]


@pytest.mark.parametrize("seed", range(3))
def test_a_run_goes_on_over_the_death_of_its_server(
    address: str, mortal: Mortal, seed: int
) -> None:
    tf.connect(address)
    expected = train(100)
    deaths = frozenset(random.Random(seed).sample(range(100), 5))
    tf.connect(mortal.address)
    assert train(100, mortal, deaths) == expected


def test_a_level_that_the_server_does_not_offer(address: str) -> None:
    tf.connect(address)
    with pytest.raises(errors.UnimplementedError) as raised:
        tf.synchronize("durable")
    assert raised.value.reason == "LEVEL_UNAVAILABLE"
    with pytest.raises(ValueError, match="level"):
        tf.synchronize("saved")
    tf.synchronize("applied", timeout=1.0)


def test_what_is_durable_is_there_at_once(mortal: Mortal) -> None:
    tf.connect(mortal.address)
    v = tf.Variable([1.0, 2.0])
    v.assign_add([10.0, 20.0])
    tf.synchronize("durable", timeout=60.0)
    mortal.die()
    assert v.numpy().tolist() == [11.0, 22.0]
