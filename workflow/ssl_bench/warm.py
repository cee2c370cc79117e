"""Jobs without their start: a process that has torch imported, and forks itself for each job.

A small job takes less time than the imports before it, and a study has hundreds. ``python -m
ssl_bench warm COMMAND …`` runs a command, such as snakemake, while such a process listens on a
socket that ``SSL_BENCH_WARM`` names: ``python -m ssl_bench STAGE`` then hands its arguments,
folder, environment and standard streams over, and ends with the status of the fork. A job still is
a process of its own, which ends when the one that asked for it does.

The listener imports, and never touches a device: each fork starts CUDA for itself.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from ssl_bench.errors import StudyError

VARIABLE = "SSL_BENCH_WARM"
IMPORTED = (
    "ssl_bench.cells",
    "ssl_bench.upstream",
    "lhotse",
    "transformers.models.hubert.modeling_hubert",
    "transformers.models.wav2vec2.modeling_wav2vec2",
    "transformers.models.wavlm.modeling_wavlm",
)
"""What stages spend their start on; s3prl besides, where it is installed."""
_LONGEST = 2**20
"""Bytes of a request."""


def hand_over(arguments: Sequence[str]) -> int | None:
    """Let the listener run a stage; return its exit status, or None where nobody listens."""
    place = os.environ.get(VARIABLE)
    if not place:
        return None
    request = json.dumps([list(arguments), os.getcwd(), dict(os.environ)]).encode()  # noqa: PTH109
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(place)
        except OSError:
            return None
        socket.send_fds(connection, [len(request).to_bytes(4)], [0, 1, 2])
        connection.sendall(request)
        answer = connection.recv(1)
    return answer[0] if answer else 1


def run(command: Sequence[str]) -> int:
    """Run a command while a listener serves its stages; return the command's exit status."""
    with tempfile.TemporaryDirectory(prefix="ssl_bench-") as folder:
        place = str(Path(folder) / "socket")
        ready, tell = os.pipe()
        listener = os.fork()
        if listener == 0:
            os.close(ready)
            _listen(place, tell)
        os.close(tell)
        os.read(ready, 1)
        os.close(ready)
        try:
            return subprocess.run(command, env={**os.environ, VARIABLE: place}).returncode
        finally:
            os.kill(listener, signal.SIGTERM)
            os.waitpid(listener, 0)


def _listen(place: str, tell: int) -> NoReturn:
    """Fork for every connection, for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the command, which ends this
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _import()
    gc.freeze()  # so that a fork's collector does not touch, and copy, what it shares
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen(64)
        os.write(tell, b"1")
        os.close(tell)
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _serve(connection)
            connection.close()


def _import() -> None:
    for name in IMPORTED:
        import_module(name)
    from ssl_bench.upstreams import s3prl

    with suppress(StudyError):
        s3prl.hub()


def _serve(connection: socket.socket) -> NoReturn:
    """Run one stage in this fork, as if it had been started by itself."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        arguments = _accept(connection)
        threading.Thread(target=_end_with, args=(connection,), daemon=True).start()

        from ssl_bench.__main__ import main

        main(arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - whatever it is, the one that asked must hear of it
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([status & 0xFF]))
        os._exit(status)


def _accept(connection: socket.socket) -> list[str]:
    """Take over the streams, folder and environment of who asks; return the arguments."""
    import torch

    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    request = b""
    while len(request) < int.from_bytes(size):
        request += connection.recv(_LONGEST)
    arguments, folder, environment = json.loads(request)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    return arguments


def _end_with(connection: socket.socket) -> None:
    """End this process when the one that asked for it has gone."""
    if not connection.recv(1):
        os._exit(130)
