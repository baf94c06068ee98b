"""One question over a real wire: the answer, or the error, that a reply leads to; and a server that sends any bytes."""

import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.llm import Answer, ModelError, Question
from tests.asking import KEY, QUESTION, model
from tests.standin import Reply, standin


def ask(wire: str, reply: Reply, question: Question = QUESTION, **server: float) -> Answer:
    with standin([reply]) as there:
        return model(wire, there.url, server).ask(question, None)


def failure(wire: str, reply: Reply, **server: float) -> ModelError:
    """The error that a reply leads to. The key is nowhere in it, nor in what a crash log would print of it."""
    with pytest.raises(ModelError) as caught:
        ask(wire, reply, **server)
    error = caught.value
    shown = "".join(traceback.format_exception(error, chain=True)) + repr(error) + repr(error.__dict__)
    assert KEY not in shown and "Traceback" in shown
    assert error.__context__ is None and error.__cause__ is None
    return error


@contextmanager
def raw_server(pieces: list[bytes], pause_s: float = 0.0) -> Iterator[str]:
    """Sends bytes as they are to whoever connects, once the request has come."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                connection, _ = server.accept()
                with connection:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += connection.recv(65536)
                    head, _, body = request.partition(b"\r\n\r\n")
                    size = next(
                        int(row[15:]) for row in head.lower().split(b"\r\n") if row.startswith(b"content-length")
                    )
                    while len(body) < size:
                        body += connection.recv(65536)
                    for piece in pieces:
                        if stop.wait(pause_s) if pause_s else stop.is_set():
                            return
                        connection.sendall(piece)
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            thread.join(5)
