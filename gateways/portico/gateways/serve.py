"""HTTP gateways on one port, until SIGTERM; then their streams end resumably and the process ends."""

import socket

import uvicorn

from portico.gateways.sse.app import Gateway

STOP_SECONDS = 5


class _Server(uvicorn.Server):
    """Ends the streams before it waits for connections to close."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.stop()
        await super().shutdown(sockets)


def serve(gateway: Gateway, host: str, port: int, fd: int | None) -> None:
    """Serve on host and port, or on a listening socket that was handed down. Exits when it can't."""
    config = uvicorn.Config(
        gateway,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        backlog=4096,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    sockets = None if fd is None else [socket.socket(fileno=fd)]
    _Server(config, gateway).run(sockets)
