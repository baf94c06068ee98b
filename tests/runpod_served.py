"""The stand-in for RunPod on a loopback port: `with standin() as stand:`."""

import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.runpod import StandIn
from tests.runpod_pods import problem


@contextlib.contextmanager
def standin(stand: StandIn | None = None) -> Iterator[StandIn]:
    """Serves on a loopback port while inside."""
    stand = stand or StandIn()

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if "Allow" in headers and stand.schemas is not None:
            headers["Allow"] = stand.schemas.methods(request.url.path)
        return problem(error.status_code, error.detail, error.detail, headers)

    handle: Callable[[Request], Awaitable[Response]] = stand.handle
    routes = [
        Route("/v2/pods", handle, methods=["GET", "POST"]),
        Route("/v2/pods/{id}", handle, methods=["GET", "DELETE"]),
        Route("/v2/pods/{id}/action", handle, methods=["POST"]),
        Route("/v2/billing/pods", handle, methods=["GET"]),
        Route("/v2/billing/network-volumes", handle, methods=["GET"]),
        Route("/v2/network-volumes", handle, methods=["GET"]),
        Route("/v2/network-volumes/{id}", handle, methods=["GET"]),
        Route("/v2/catalog/gpus", handle, methods=["GET"]),
        Route("/v2/catalog/gpus/{id}", handle, methods=["GET"]),
        Route("/v2/catalog/datacenters", handle, methods=["GET"]),
        Route("/v2/catalog/datacenters/{id}", handle, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: refused})
    listener = socket.create_server(("127.0.0.1", 0))
    stand.port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield stand
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
