"""`Tunnel`: an HTTP proxy on the test's own loop that joins callers to one server, whatever host they name."""

from __future__ import annotations

import asyncio

from dspy_actors.testing.loopback import Loopback


class Tunnel(Loopback):
    """Answers `CONNECT` and joins the two connections; `asked` holds the heads it was sent."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._to = port
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See `Loopback.serve`."""
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
