"""Finds the server's binary and runs it on loopback for the life of this process."""

from __future__ import annotations

import collections
import os
import shutil
import subprocess
import threading
from pathlib import Path

from gradtape import errors

_LISTENING = "listening on "


def find() -> Path:
    """Returns the binary: GRADTAPE_SERVER, `gradtape` on the path, or a build in this checkout."""
    named = os.environ.get("GRADTAPE_SERVER")
    if named:
        return Path(named)
    on_path = shutil.which("gradtape")
    if on_path:
        return Path(on_path)
    for folder in Path(__file__).resolve().parents:
        if (folder / "Cargo.toml").is_file() and (folder / "proto" / "gradtape").is_dir():
            for profile in ("release", "debug"):
                binary = folder / "target" / profile / "gradtape"
                if binary.is_file():
                    return binary
    raise errors.UnavailableError(
        "No server: set GRADTAPE_ADDRESS or call tf.connect(address) to use a running one, "
        "or put the binary `gradtape` on the PATH or in GRADTAPE_SERVER to have one started."
    )


class LocalServer:
    """A server of our own. It ends when its standard input does, so it cannot outlive us."""

    def __init__(self, binary: Path | None = None) -> None:
        command = [str(binary or find()), "serve", "--listen", "127.0.0.1:0", "--exit-with-parent"]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise errors.UnavailableError(f"cannot start {command[0]}: {error}") from None
        self._last_words: collections.deque[str] = collections.deque(maxlen=20)
        self._drain(self.process.stderr)
        self.address = self._read_address(command)
        self._drain(self.process.stdout)

    def stop(self) -> None:
        """Ends the server."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _read_address(self, command: list[str]) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if _LISTENING in line:
                return line.split(_LISTENING, 1)[1].split()[0]
            self._last_words.append(line)
        self.process.wait()
        raise errors.UnavailableError(
            f"{' '.join(command)} ended with {self.process.returncode}:\n"
            + "".join(self._last_words)
        )

    def _drain(self, stream: object) -> None:
        """Keeps the server's logs from filling the pipe; the last lines explain a failed start."""

        def read() -> None:
            for line in stream:  # type: ignore[attr-defined]
                self._last_words.append(line)

        threading.Thread(target=read, name="gradtape-server-log", daemon=True).start()
