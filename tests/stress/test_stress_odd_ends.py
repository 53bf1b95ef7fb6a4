# SPDX-License-Identifier: MIT
"""Odd ends and accepting under load; peers that matter are processes of their own."""

import array
import asyncio
import os
import resource
import socket
import struct
import subprocess
import sys
import threading

import pytest
from loopkit import (
    Echo,
    Recorder,
    address_of,
    connect,
    connect_to,
    in_thread,
    read_all,
    read_exactly,
    start_server,
)


def peer_process(code, *args):
    """A Python process that runs `code`, with its output as a pipe."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], stdin=-1, stdout=-1, text=True
    )


def descriptors(wanted):
    """Raise the limit of descriptors to `wanted`, or skip the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (OSError, ValueError):
        pytest.skip(f"needs {wanted} descriptors, {hard} are allowed")


async def test_large_transfer_to_a_slow_reader_is_bounded_in_memory(loop):
    """300 MB with drain(): what waits in this process stays about the high-water mark."""
    total, chunk = 300 << 20, b"c" * (1 << 18)
    largest = 0

    async def serve(reader, writer):
        nonlocal largest
        for _ in range(total // len(chunk)):
            writer.write(chunk)
            largest = max(largest, writer.transport.get_write_buffer_size())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = """
import socket, sys, time
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
size = count = 0
while data := sock.recv(1 << 18):
    size += len(data)
    count += 1
    if count % 50 == 0:
        time.sleep(0.001)
print(size)
"""
    with peer_process(code, address_of(server)[1]) as peer:
        out = await in_thread(peer.stdout.read)
    assert int(out) == total
    high = 64 << 10
    assert largest <= high + len(chunk)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 32 << 10, f"{grown} KiB more"
    server.close()
    await server.wait_closed()


async def test_idle_connections_use_no_cpu(loop):
    """10,000 of them, held by another process: nothing runs while nothing happens."""
    count = 10_000
    descriptors(count + 200)
    made = lost = 0

    class Idle(asyncio.Protocol):
        def connection_made(self, transport):
            nonlocal made
            made += 1

        def connection_lost(self, exc):
            nonlocal lost
            lost += 1

    server = await start_server("unix", Idle, backlog=1000)
    code = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
socks = []
for _ in range(int(sys.argv[2])):
    socks.append(socket.socket(socket.AF_UNIX))
    socks[-1].connect("\\0" + sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""
    name = address_of(server)[1:].decode()
    with peer_process(code, name, count) as peer:
        if await in_thread(peer.stdout.readline) != "ready\n":
            pytest.skip(f"the peer may not have {count} descriptors")
        while made < count:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        begun = usage.ru_utime + usage.ru_stime
        await asyncio.sleep(1)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        used = usage.ru_utime + usage.ru_stime - begun
        peer.stdin.close()
        while lost < count:
            await asyncio.sleep(0.001)
    assert used < 0.1, f"{used} s of CPU in an idle second"
    server.close()
    await server.wait_closed()


async def test_established_connection_is_served_during_a_flood(loop):
    """Short connections from two processes; an echo on an older one goes on all the while."""
    server = await start_server("tcp", Echo, backlog=1000)
    transport, protocol = await connect(address_of(server), Recorder)
    code = """
import socket, sys
for _ in range(int(sys.argv[2])):
    socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
"""
    flood = [peer_process(code, address_of(server)[1], 2000) for _ in range(2)]
    rounds = 0
    while any(process.poll() is None for process in flood):
        transport.write(b"x")
        rounds += 1
        await protocol.received(rounds)
    assert [process.wait() for process in flood] == [0, 0]
    assert rounds > 100
    for process in flood:
        process.stdin.close()
        process.stdout.close()
    transport.close()
    await protocol.seen("connection_lost")
    server.close()
    await server.wait_closed()


async def test_graceful_close_loses_no_accepted_connection(loop):
    """Whoever got as far as a protocol gets its answer, although the server is closed."""
    answered = 0

    class Late(asyncio.Protocol):
        def connection_made(self, transport):
            nonlocal answered
            answered += 1
            loop.call_later(0.005, self.finish, transport)

        def finish(self, transport):
            transport.write(b"answer")
            transport.close()

    server = await start_server("tcp", Late, backlog=1000)
    address = address_of(server)
    outcomes = []

    def clients():
        while True:
            try:
                with connect_to(address) as sock:
                    outcomes.append(read_all(sock))
            except ConnectionRefusedError:
                return
            except OSError:
                outcomes.append(b"")  # it waited in the backlog when that was closed

    threads = [threading.Thread(target=clients) for _ in range(8)]
    for thread in threads:
        thread.start()
    while answered < 200:
        await asyncio.sleep(0.001)
    server.close()
    await server.wait_closed()
    for thread in threads:
        await in_thread(thread.join)
    assert outcomes.count(b"answer") == answered
    assert set(outcomes) <= {b"answer", b""}


async def test_descriptor_closed_behind_the_back_of_a_transport(loop):
    """The number goes to somebody else, whom the transport's end leaves alone."""
    server = await start_server("tcp", Recorder)
    transport, protocol = await connect(address_of(server), Recorder)
    await asyncio.sleep(0.001)
    fd = transport.get_extra_info("socket").fileno()
    kept = socket.socket(fileno=os.dup(fd))  # so that the peer sees no end yet
    one, two = socket.socketpair()
    with one, two, kept:
        os.dup2(one.fileno(), fd)  # closes the transport's, atomically
        two.send(b"somebody else's")
        await asyncio.sleep(0.001)
        assert protocol.data == b""
        transport.abort()
        await protocol.seen("connection_lost")
        await asyncio.sleep(0)
        assert one.recv(100) == b"somebody else's"
    server.close()
    await server.wait_closed()


async def test_zero_length_writes(any_connection, loop):
    """They are nothing: no system call that a peer could notice, no callback, no error."""
    async with any_connection() as (transport, protocol, peer):
        for data in (b"", bytearray(), memoryview(b"")):
            transport.write(data)
        transport.write(b"x")
        transport.write(b"")
        assert transport.get_write_buffer_size() == 0
        assert await in_thread(read_exactly, peer, 1) == b"x"
        assert "pause_writing" not in protocol.events
        transport.close()
        transport.write(b"")
        assert await in_thread(read_all, peer) == b""


async def test_credentials_of_a_unix_peer(loop):
    server = await start_server("unix", Recorder)
    transport, protocol = await connect(address_of(server), Recorder)
    sock = transport.get_extra_info("socket")
    got = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    assert struct.unpack("3i", got) == (os.getpid(), os.getuid(), os.getgid())
    transport.close()
    await protocol.seen("connection_lost")
    server.close()
    await server.wait_closed()


async def test_descriptors_passed_beside_the_loop(loop):
    """SCM_RIGHTS by add_reader and recvmsg; the loop then drives what came."""
    one, two = socket.socketpair()
    passed, mine = socket.socketpair()
    arrived = loop.create_future()
    one.setblocking(False)

    def readable():
        size = array.array("i").itemsize
        _, ancillary, _, _ = one.recvmsg(1, socket.CMSG_SPACE(size))
        fds = array.array("i", ancillary[0][2][:size])
        arrived.set_result(socket.socket(fileno=fds[0]))

    loop.add_reader(one, readable)
    with one, two, mine:
        with passed:
            rights = array.array("i", [passed.fileno()])
            two.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            sock = await arrived
        loop.remove_reader(one)
        transport, protocol = await loop.create_unix_connection(Recorder, sock=sock)
        mine.sendall(b"through it")
        assert await protocol.received(10) == b"through it"
        transport.close()
        await protocol.seen("connection_lost")
