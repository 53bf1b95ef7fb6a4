# SPDX-License-Identifier: MIT
"""One smoke test of each thing the loop inherits from the standard library."""

import asyncio
import os
import signal
import socket
import ssl
import sys

import pytest
from loopkit import Echo, Recorder, address_of, in_thread, read_exactly

trustme = pytest.importorskip("trustme")


@pytest.fixture(scope="module")
def tls():
    """Server and client contexts of one authority."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hoop.test", "127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_tls_transports(loop, tls):
    server_context, client_context = tls
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
    transport, protocol = await loop.create_connection(
        Recorder, *address_of(server), ssl=client_context
    )
    data = os.urandom(1 << 20)
    transport.write(data[:10])
    transport.write(data[10:])
    assert await protocol.received(len(data)) == data
    assert transport.get_extra_info("ssl_object").version().startswith("TLS")
    transport.close()
    await protocol.seen("connection_lost")
    server.close()
    await server.wait_closed()


async def test_tls_streams_and_hostname_check(loop, tls):
    server_context, client_context = tls

    async def handle(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_context)
    reader, writer = await asyncio.open_connection(
        *address_of(server), ssl=client_context, server_hostname="hoop.test"
    )
    writer.write(b"hello\n")
    assert await reader.read() == b"HELLO\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_tls_of_an_unknown_authority_is_refused(loop, tls):
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=tls[0])
    with pytest.raises(ssl.SSLCertVerificationError):
        await loop.create_connection(
            Recorder, *address_of(server), ssl=ssl.create_default_context()
        )
    await asyncio.sleep(0.01)
    server.close()
    await server.wait_closed()


async def test_start_tls(loop, tls):
    server_context, client_context = tls

    async def handle(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.start_tls(server_context)
        writer.write((await reader.readline()).upper())
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*address_of(server))
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(client_context, server_hostname="hoop.test")
    writer.write(b"secret\n")
    assert await reader.read() == b"SECRET\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_subprocess(loop):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(3)",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(b"hello")
    assert (out, process.returncode) == (b"HELLO", 3)
    process = await asyncio.create_subprocess_shell("sleep 60")
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == -signal.SIGTERM


def test_subprocess_in_a_thread_that_is_not_the_main_one(loop_factory):
    import threading

    results = []

    def work():
        async def main():
            process = await asyncio.create_subprocess_exec("true")
            return await process.wait()

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            results.append(runner.run(main()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert results == [0]


async def test_pipes(loop):
    read_fd, write_fd = os.pipe()
    reader = asyncio.StreamReader()
    read_transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", 0)
    )
    write_transport, _ = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(write_fd, "wb", 0)
    )
    data = os.urandom(300_000)
    write_transport.write(data)
    assert await reader.readexactly(len(data)) == data
    write_transport.close()
    assert await reader.read() == b""
    read_transport.close()
    await asyncio.sleep(0.001)


async def test_socket_methods(loop):
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    client = socket.socket()
    client.setblocking(False)
    with listening, client:
        accepting = asyncio.ensure_future(loop.sock_accept(listening))
        await loop.sock_connect(client, listening.getsockname())
        accepted, address = await accepting
        assert address == client.getsockname()
        with accepted:
            data = os.urandom(1 << 20)
            sending = asyncio.ensure_future(loop.sock_sendall(client, data))
            received = bytearray()
            buffer = bytearray(70_000)
            while len(received) < len(data):
                if len(received) < 100_000:
                    received += await loop.sock_recv(accepted, 10_000)
                else:
                    received += buffer[: await loop.sock_recv_into(accepted, buffer)]
            await sending
            assert received == data
            waiting = asyncio.ensure_future(loop.sock_recv(accepted, 1))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await loop.sock_sendall(client, b"x")
            assert await loop.sock_recv(accepted, 1) == b"x"


async def test_datagram_socket_methods(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        for sock in (one, two):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        await loop.sock_sendto(one, b"hello", two.getsockname())
        assert await loop.sock_recvfrom(two, 100) == (b"hello", one.getsockname())


async def test_sock_sendfile(loop, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"f" * 100_000)
    left, right = socket.socketpair()
    left.setblocking(False)
    right.settimeout(20)
    with left, right, path.open("rb") as file:
        reading = asyncio.ensure_future(in_thread(read_exactly, right, 100_000))
        assert await loop.sock_sendfile(left, file) == 100_000
        assert await reading == b"f" * 100_000


async def test_name_resolution(loop):
    infos = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert infos[0][4] == ("127.0.0.1", 80)
    host, service = await loop.getnameinfo(
        ("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    )
    assert (host, service) == ("127.0.0.1", "80")
