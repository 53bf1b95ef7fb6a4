# SPDX-License-Identifier: MIT
"""An echo server and its clients

The server comes in asyncio's two styles: streams, where a coroutine per connection reads
and writes, and a protocol, whose methods the loop calls as data arrives. The clients
cannot tell them apart.
"""

import asyncio

import hoop


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


class EchoProtocol(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def client(name: str, port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"hello from {name}\n".encode())
    writer.write(b"and goodbye")
    writer.write_eof()
    reply = await reader.read()
    writer.close()
    await writer.wait_closed()
    return reply.decode().replace("\n", " ")


async def main() -> None:
    loop = asyncio.get_running_loop()
    streams = await asyncio.start_server(echo_stream, "127.0.0.1", 0)
    protocol = await loop.create_server(EchoProtocol, "127.0.0.1", 0)
    for style, server in {"streams": streams, "protocol": protocol}.items():
        async with server:
            port = server.sockets[0].getsockname()[1]
            replies = await asyncio.gather(*(client(name, port) for name in ("Ann", "Bo", "Cy")))
        for reply in replies:
            print(f"{style} server sent back: {reply}")


if __name__ == "__main__":
    hoop.run(main())
