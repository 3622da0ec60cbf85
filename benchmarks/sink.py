"""A collector that accepts and discards everything: `python -m benchmarks.sink PORT`."""

import asyncio
import sys


async def main() -> None:
    server = await asyncio.start_server(_take, "127.0.0.1", int(sys.argv[1]))
    async with server:
        await server.serve_forever()


async def _take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            await reader.readexactly(int(fields[b"content-length"]))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the exporter has disconnected
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(main())
