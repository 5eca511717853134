"""How a session reaches its server: options and environment, tokens, TLS."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

import gradtape as tf
from gradtape import _channel, _server, errors

# Options of `tf.connect`, the environment, and what comes of both: address, encrypted, token.
TARGETS = [
    ({"address": "localhost:1"}, {}, ("localhost:1", False, None)),
    ({"address": "grpc://host:1/"}, {}, ("host:1", False, None)),
    ({"address": "http://host:1"}, {}, ("host:1", False, None)),
    ({"address": "https://host:1"}, {}, ("host:1", True, None)),
    ({"address": "host:1", "tls": True}, {}, ("host:1", True, None)),
    ({"address": "host:1", "ca": b"pem"}, {}, ("host:1", True, None)),
    ({"address": "host:1", "identity": (b"pem", b"key")}, {}, ("host:1", True, None)),
    ({"address": "host:1", "token": "secret"}, {}, ("host:1", False, "secret")),
    # A token of the environment goes where nobody else can read it, and nowhere else.
    ({"address": "host:1"}, {"GRADTAPE_TOKEN": "secret"}, ("host:1", False, None)),
    ({"address": "https://host:1"}, {"GRADTAPE_TOKEN": "secret"}, ("host:1", True, "secret")),
    ({"address": "localhost:1"}, {"GRADTAPE_TOKEN": "secret"}, ("localhost:1", False, "secret")),
    ({"address": "127.0.0.1:1"}, {"GRADTAPE_TOKEN": "secret"}, ("127.0.0.1:1", False, "secret")),
    ({"address": "[::1]:1"}, {"GRADTAPE_TOKEN": "secret"}, ("[::1]:1", False, "secret")),
    (
        {"address": "localhost:1", "token": "hidden"},
        {"GRADTAPE_TOKEN": "secret"},
        ("localhost:1", False, "hidden"),
    ),
]


@pytest.mark.parametrize(("options", "environment", "expected"), TARGETS)
def test_options_and_environment(
    options: dict, environment: dict[str, str], expected: tuple[str, bool, str | None]
) -> None:
    target = _channel.target(**options, environment=environment)
    assert (target.address, target.tls, target.token) == expected
    assert "secret" not in repr(target)


@pytest.mark.parametrize(
    "options",
    [
        {"address": "ftp://host:1"},
        {"address": "http://host:1", "ca": b"pem"},
        {"address": "http://host:1", "tls": True},
        {"address": "https://host:1", "tls": False},
        {"address": "host:1", "token": "a\nb"},
        {"address": "host:1", "token": "ä"},
    ],
)
def test_contradictions(options: dict) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        _channel.target(**options, environment={})


class Protected:
    """A server with TLS that takes one token."""

    def __init__(self, folder: Path) -> None:
        binary = str(_server.find())
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        key, chain = folder / "key.pem", folder / "cert.pem"
        certificate.private_key_pem.write_to_path(key)
        for part in certificate.cert_chain_pems:
            part.write_to_path(chain, append=True)
        tokens = folder / "tokens.json"
        made = subprocess.run(
            [binary, "token", "--file", tokens, "create", "ada"],
            check=True,
            capture_output=True,
            text=True,
        )
        self.token = made.stdout.strip()
        self.process = subprocess.Popen(
            [
                *(binary, "serve", "--listen", "127.0.0.1:0", "--exit-with-parent"),
                *("--tls-cert", chain, "--tls-key", key, "--token-file", tokens),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().removeprefix("listening on ").strip()

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protected]:
    server = Protected(tmp_path_factory.mktemp("protected"))
    yield server
    server.stop()


def square() -> float:
    x = tf.constant(3.0)
    return float(x * x)


def test_a_session_over_tls_with_a_token(protected: Protected) -> None:
    tf.connect(protected.address, token=protected.token, ca=protected.ca)
    assert square() == 9.0
    # Larger than what fits inline, so that uploads and downloads go the same way.
    large = tf.ones([1 << 20])
    assert large.numpy().sum() == 1 << 20


def test_a_session_by_the_environment(
    protected: Protected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADTAPE_ADDRESS", f"https://{protected.address}")
    monkeypatch.setenv("GRADTAPE_CA", os.fspath(protected.ca))
    monkeypatch.setenv("GRADTAPE_TOKEN", protected.token)
    assert square() == 9.0


@pytest.mark.parametrize("token", [None, "gt_wrong"])
def test_who_has_no_token_stays_outside(protected: Protected, token: str | None) -> None:
    with pytest.raises(errors.UnauthenticatedError, match="credential") as caught:
        tf.connect(protected.address, token=token, ca=protected.ca)
    assert "gt_wrong" not in str(caught.value)
