# SPDX-License-Identifier: MIT
"""Descriptors that are watched, sock_* methods, datagrams, pipes and children at work."""

import asyncio
import os
import select
import socket
import sys
import tempfile

from probekit import Datagrams, Recorded, Stream, probe, table


class BadFileno:
    """Its fileno() is no descriptor."""

    def __init__(self, value):
        self._value = value

    def fileno(self):
        """What it was given; raises it if it is an exception."""
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


def closed_fd(p):
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    return read


def closed_socket(p):
    sock = p.socket()
    sock.close()
    return sock


def regular_file(p):
    return p.stack.enter_context(tempfile.TemporaryFile())


DESCRIPTORS = {
    "negative": lambda p: -1,
    "text": lambda p: "x",
    "none": lambda p: None,
    "float": lambda p: 1.5,
    "bool": lambda p: BadFileno(True),
    "huge": lambda p: 1 << 40,
    "unused": lambda p: 900,
    "closed": closed_fd,
    "closed-socket": closed_socket,
    "regular-file": regular_file,
    "fileno-negative": lambda p: BadFileno(-1),
    "fileno-text": lambda p: BadFileno("x"),
    "fileno-raises": lambda p: BadFileno(KeyError("mine")),
    "socket": lambda p: p.pair()[0],
}


def watch(name, make, *args):
    def call(p):
        fd = make(p)
        p.note(name)
        p.call(getattr(p.loop, name), fd, *args)
        other = name.replace("add", "remove")
        if other != name:
            p.call(getattr(p.loop, other), fd)

    return call


for _name in ("add_reader", "add_writer"):
    table(_name, {k: watch(_name, make, print) for k, make in DESCRIPTORS.items()})
for _name in ("remove_reader", "remove_writer"):
    table(_name, {k: watch(_name, make) for k, make in DESCRIPTORS.items()})
table(
    "add_reader_arguments",
    {
        "none": watch("add_reader", lambda p: p.pair()[0]),
        "not-callable": watch("add_reader", lambda p: p.pair()[0], 5),
        "nothing": lambda p: p.loop.add_reader(),
        "remove-nothing": lambda p: p.loop.remove_reader(),
    },
)


@probe
async def readers_of_a_hung_up_pipe(p):
    read, write = os.pipe()
    p.loop.add_reader(
        read, lambda: (p.note("readable", os.read(read, 10)), p.loop.remove_reader(read))
    )
    os.close(write)
    await p.settle()
    os.close(read)
    read, write = os.pipe()
    p.loop.add_writer(write, lambda: (p.note("writable"), p.loop.remove_writer(write)))
    os.close(read)
    await p.settle()
    os.close(write)


@probe
async def reader_and_writer_of_a_reset_socket(p):
    listening = p.listening()
    client = socket.create_connection(listening.getsockname())
    accepted, _ = listening.accept()
    p.own(accepted)
    p.loop.add_reader(accepted, lambda: (p.note("readable"), p.loop.remove_reader(accepted)))
    await p.settle()
    p.reset(client)
    await p.settle()
    p.loop.add_writer(accepted, lambda: (p.note("writable"), p.loop.remove_writer(accepted)))
    await p.settle()
    p.call(accepted.recv, 1)


@probe
async def reader_of_a_half_closed_socket(p):
    one, two = p.pair()
    count = 0

    def readable():
        nonlocal count
        count += 1
        if count == 3:
            p.note("readable", one.recv(10), p.loop.remove_reader(one))

    p.loop.add_reader(one, readable)
    two.shutdown(socket.SHUT_WR)
    await p.settle()
    p.note(count)


@probe
async def reader_that_raises(p):
    one, two = p.pair()
    two.send(b"x")

    def fail():
        one.recv(1)
        raise ValueError("reader")

    p.loop.add_reader(one, fail)
    await p.settle()
    p.call(p.loop.remove_reader, one)


@probe
async def reader_replaced_and_removed(p):
    one, two = p.pair()
    two.send(b"x")
    p.loop.add_reader(one, p.note, "first")
    p.loop.add_reader(one, lambda: (p.note("second"), one.recv(1)))
    await p.settle()
    p.call(p.loop.remove_writer, one)
    p.call(p.loop.remove_reader, one)
    p.call(p.loop.remove_reader, one)


@probe
async def reader_of_an_epoll_object(p):
    one, two = p.pair()
    with select.epoll() as inner:
        inner.register(one, select.EPOLLIN)
        p.loop.add_reader(inner, lambda: (p.note("inner"), one.recv(1)))
        two.send(b"x")
        await p.settle()
        p.loop.remove_reader(inner)


@probe
async def descriptor_of_a_transport(p):
    transport, protocol, _ = await p.connected()
    sock = transport.get_extra_info("socket")
    await p.settle()
    for call in (p.loop.add_reader, p.loop.add_writer):
        p.call(call, sock.fileno(), print)
        p.call(call, sock, print)
    for call in (p.loop.remove_reader, p.loop.remove_writer):
        p.call(call, sock.fileno())
    await p.wait(p.loop.sock_recv, sock._sock, 1)
    await p.wait(p.loop.sock_sendall, sock._sock, b"x")


@probe
async def socket_closed_while_watched(p):
    one, two = p.pair()
    p.loop.add_reader(one, p.note, "never")
    one.close()
    await p.settle()
    p.call(p.loop.remove_reader, one)


@probe
async def sock_methods_at_work(p):
    listening = p.own(socket.create_server(("127.0.0.1", 0)))
    client = p.socket()
    accepting = asyncio.ensure_future(p.loop.sock_accept(listening))
    await p.wait(p.loop.sock_connect, client, listening.getsockname())
    server, address = await accepting
    p.own(server)
    p.note(address == client.getsockname(), server.gettimeout())
    await p.wait(p.loop.sock_sendall, client, memoryview(b"hello"))
    await p.wait(p.loop.sock_recv, server, 3)
    buffer = bytearray(10)
    await p.wait(p.loop.sock_recv_into, server, memoryview(buffer)[2:5])
    p.note(buffer)
    client.shutdown(socket.SHUT_WR)
    await p.wait(p.loop.sock_recv, server, 3)
    await p.wait(p.loop.sock_recv_into, server, buffer)
    client.close()
    server.close()
    await p.wait(p.loop.sock_recv, server, 1)


@probe
async def sock_recv_cancelled(p):
    one, two = p.pair()
    waiting = asyncio.ensure_future(p.loop.sock_recv(one, 10))
    await p.settle()
    waiting.cancel()
    await asyncio.wait([waiting])
    p.note(waiting.cancelled())
    two.send(b"data")
    await p.wait(p.loop.sock_recv, one, 10)
    p.call(p.loop.remove_reader, one)


@probe
async def sock_recv_of_a_reset_socket(p):
    listening = p.listening()
    client = socket.create_connection(listening.getsockname())
    accepted = p.own(listening.accept()[0])
    waiting = asyncio.ensure_future(p.loop.sock_recv(accepted, 1))
    await p.settle()
    p.reset(client)
    await p.wait(asyncio.wait_for, waiting, 5)
    await p.wait(p.loop.sock_sendall, accepted, b"x")


@probe
async def sock_datagrams(p):
    one, two = (p.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for sock in (one, two):
        sock.bind(("127.0.0.1", 0))
    await p.wait(p.loop.sock_sendto, one, b"hello", two.getsockname())
    await p.wait(p.loop.sock_recvfrom, two, 100)
    await p.wait(p.loop.sock_sendto, one, b"", two.getsockname())
    await p.wait(p.loop.sock_recvfrom_into, two, bytearray(10))
    await p.wait(p.loop.sock_sendto, one, b"x" * 70000, two.getsockname())
    await p.wait(p.loop.sock_sendto, one, b"x", ("127.0.0.1", 0))


async def endpoint(p, name="", **arguments):
    protocol = p.make(name, Datagrams)
    transport, _ = await p.loop.create_datagram_endpoint(lambda: protocol, **arguments)
    p.stack.callback(transport.abort)
    return transport, protocol


HERE = ("127.0.0.1", 0)


@probe
async def datagrams(p):
    server, at_server = await endpoint(p, "server.", local_addr=HERE)
    client, at_client = await endpoint(p, "client.", remote_addr=server.get_extra_info("sockname"))
    p.call(client.sendto, b"hello")
    await at_server.seen("datagram_received")
    p.call(server.sendto, b"answer", client.get_extra_info("sockname"))
    await at_client.seen("datagram_received")
    for name in ("sockname", "peername", "socket", "nonsense"):
        p.note(name, client.get_extra_info(name), server.get_extra_info(name))
    p.note(client.is_closing(), client.get_write_buffer_size(), client.get_write_buffer_limits())


SENT = {
    "bytes": (b"x",),
    "bytearray": (bytearray(b"x"),),
    "view": (memoryview(b"x"),),
    "text": ("x",),
    "none": (None,),
    "int": (5,),
    "list": ([1],),
    "address": (b"x", ("127.0.0.1", 1)),
    "address-none": (b"x", None),
    "address-text": (b"x", "x"),
    "address-short": (b"x", ("127.0.0.1",)),
    "address-port": (b"x", ("127.0.0.1", 70000)),
    "address-name": (b"x", ("no host", 1)),
    "too-large": (b"x" * 70000,),
    "nothing": (),
}


def sending(arguments, connects):
    async def run(p):
        server, at_server = await endpoint(p, "server.", local_addr=HERE)
        if connects:
            where = {"remote_addr": server.get_extra_info("sockname")}
        else:
            where = {"local_addr": HERE}
        client, _ = await endpoint(p, "client.", **where)
        p.call(client.sendto, *arguments)
        await p.settle()
        p.note(client.is_closing())

    return run


table("sendto_connected", {k: sending(v, True) for k, v in SENT.items()})
table("sendto_unconnected", {k: sending(v, False) for k, v in SENT.items()})
# Before 3.13 asyncio sends no empty datagram.
table(
    "sendto_of_nothing",
    {"connected": sending((b"",), True), "unconnected": sending((b"",), False)},
    since=(3, 13),
)


@probe
async def datagram_to_nobody(p):
    client, protocol = await endpoint(p, remote_addr=("127.0.0.1", 1))
    client.sendto(b"x")
    await protocol.seen("error_received")
    client.sendto(b"x")
    await p.settle()


@probe
async def datagram_transport_after_close(p):
    client, protocol = await endpoint(p, local_addr=HERE)
    client.close()
    client.close()
    p.note(client.is_closing())
    p.call(client.sendto, b"x", ("127.0.0.1", 1))
    p.call(client.abort)
    await protocol.seen("connection_lost")
    await p.settle()
    p.call(client.close)
    p.note(client.get_extra_info("sockname") is not None)


@probe
async def datagram_protocol_that_raises(p):
    def fail(self, data, address):
        raise ValueError("datagram")

    protocol = p.make("", Datagrams, datagram_received=fail)
    server, _ = await p.loop.create_datagram_endpoint(lambda: protocol, HERE)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", server.get_extra_info("sockname"))
    await p.settle()
    p.note(server.is_closing())
    server.abort()


@probe
async def unix_datagrams(p):
    one, two = (os.path.join(p.folder, name) for name in "ab")
    first, _ = await endpoint(p, "a.", local_addr=one, family=socket.AF_UNIX)
    second, at_second = await endpoint(
        p, "b.", local_addr=two, remote_addr=one, family=socket.AF_UNIX
    )
    first.sendto(b"hello", two)
    await at_second.seen("datagram_received")
    second.sendto(b"answer")
    await p.settle()
    p.note(first.get_extra_info("sockname"), second.get_extra_info("peername"))
    second.abort()
    await p.settle()
    p.call(first.sendto, b"late", two)
    await p.settle()


class Pipe(Recorded, asyncio.Protocol):
    """A recorded protocol of a pipe."""

    def data_received(self, data):
        """Count what comes."""
        self.data += data
        self._called("data_received")

    def eof_received(self):
        """Note it."""
        return self._called("eof_received")


@probe
async def pipes_at_work(p):
    read, write = os.pipe()
    reader, writer = p.make("read.", Pipe), p.make("write.", Pipe)
    reading, _ = await p.loop.connect_read_pipe(lambda: reader, os.fdopen(read, "rb", 0))
    writing, _ = await p.loop.connect_write_pipe(lambda: writer, os.fdopen(write, "wb", 0))
    p.note(reading.is_reading(), writing.can_write_eof(), writing.get_write_buffer_size())
    p.call(writing.write, b"hello")
    await reader.received(5)
    p.call(reading.pause_reading)
    p.call(reading.resume_reading)
    p.call(writing.write_eof)
    p.call(writing.write, b"x")
    await reader.seen("connection_lost")
    await writer.seen("connection_lost")


@probe(before=(3, 14))  # since then the wording is another, here too
async def pipe_of_text(p):
    read, write = os.pipe()
    writing, _ = await p.loop.connect_write_pipe(p.factory("", Pipe), os.fdopen(write, "wb", 0))
    p.call(writing.write, "text")
    writing.abort()
    await p.settle()
    os.close(read)


@probe
async def pipe_whose_reader_goes_away(p):
    read, write = os.pipe()
    writer = p.make("", Pipe)
    writing, _ = await p.loop.connect_write_pipe(lambda: writer, os.fdopen(write, "wb", 0))
    os.close(read)
    await writer.seen("connection_lost")
    p.note(writing.is_closing())
    for _ in range(2):
        p.call(writing.write, b"x")


@probe
async def pipe_closed_and_aborted(p):
    for end in ("close", "abort"):
        read, write = os.pipe()
        writing, writer = await p.loop.connect_write_pipe(
            p.factory("", Pipe), os.fdopen(write, "wb", 0)
        )
        writing.write(b"x" * 200_000)
        await p.settle()
        getattr(writing, end)()
        p.note(writing.is_closing())
        size = 0
        while chunk := await asyncio.to_thread(os.read, read, 1 << 20):
            size += len(chunk)
        p.note(size)
        await writer.seen("connection_lost")
        os.close(read)


class Child(asyncio.SubprocessProtocol):
    """Notes what a child does; its output as one."""

    def __init__(self, probe):
        self.probe, self.output, self.done = probe, {}, probe.loop.create_future()

    def connection_made(self, transport):
        """Note it."""
        self.probe.note("connection_made")

    def pipe_data_received(self, fd, data):
        """Gather."""
        self.output[fd] = self.output.get(fd, b"") + data

    def pipe_connection_lost(self, fd, exc):
        """Kept apart: the order of pipes is the kernel's."""
        self.output[fd] = self.output.get(fd, b"") + repr(exc).encode()

    def process_exited(self):
        """Kept apart: it may come before a pipe's end."""

    def connection_lost(self, exc):
        """The end."""
        self.probe.note("connection_lost", exc)
        self.done.set_result(None)


@probe
async def child_by_protocol(p):
    code = "import sys; print(input()); print('err', file=sys.stderr); sys.exit(3)"
    transport, child = await p.loop.subprocess_exec(lambda: Child(p), sys.executable, "-c", code)
    p.note(transport.get_pid() > 0, transport.get_returncode(), transport.is_closing())
    pipe = transport.get_pipe_transport(0)
    pipe.write(b"question\n")
    p.note(transport.get_pipe_transport(1) is not None, transport.get_pipe_transport(5))
    await child.done
    p.note(dict(sorted(child.output.items())), transport.get_returncode())
    p.call(transport.kill)
    p.call(transport.send_signal, 9)
    p.call(transport.terminate)
    transport.close()
    p.note(transport.is_closing())


@probe
async def children(p):
    async def run(*args, **kwargs):
        process = await asyncio.create_subprocess_exec(*args, stdout=-1, stderr=-1, **kwargs)
        out, err = await process.communicate()
        p.note(out, err, process.returncode)

    await run("echo", "hello")
    await run("sh", "-c", "exit 7")
    await run("sh", "-c", "kill -9 $$")
    await run("sh", "-c", "echo $X; pwd", env={"X": "y"}, cwd="/")
    await run(b"echo", b"bytes")
    process = await asyncio.create_subprocess_shell("cat", stdin=-1, stdout=-1)
    p.note(await process.communicate(b"through"), process.returncode)
    process = await asyncio.create_subprocess_exec("sleep", "60")
    p.call(process.send_signal, 15)
    await p.wait(process.wait)
    p.call(process.send_signal, 15)
    p.call(process.kill)
    await p.wait(process.wait)


@probe
async def child_that_closes_stdin(p):
    process = await asyncio.create_subprocess_exec("true", stdin=-1)
    await process.wait()
    p.call(process.stdin.write, b"x" * 100_000)
    p.note(process.returncode)
    process.stdin.close()


@probe
async def child_killed_by_closing_its_transport(p):
    transport, child = await p.loop.subprocess_exec(lambda: Child(p), "sleep", "60")
    transport.close()
    await child.done
    p.note(transport.get_returncode())


@probe
async def sendfile_at_work(p):
    path = os.path.join(p.folder, "data")
    with open(path, "wb") as file:
        file.write(bytes(range(256)) * 100_000)  # more than the kernel takes at once
    transport, protocol, peer = await p.connected(kind=Stream)
    with open(path, "rb") as file:
        transport.write(b"head")
        sending = asyncio.ensure_future(p.loop.sendfile(transport, file, 100, 20_000_000))
        await asyncio.sleep(0)
        p.call(transport.write, b"x")
        received = bytearray()
        while len(received) < 20_000_004:
            received += await asyncio.to_thread(peer.recv, 1 << 20)
        p.note(await sending, file.tell(), len(received), received[:8])
    transport.write(b"tail")
    p.note(peer.recv(10))
