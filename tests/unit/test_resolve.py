# SPDX-License-Identifier: MIT
"""getaddrinfo and getnameinfo: the answers of the socket module, numeric ones without a thread."""

import inspect
import itertools
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

HOSTS = [
    None,
    "",
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "2130706433",
    "010.0.0.1",
    "0.0.0.0",
    "1.2.3.4.",
    "1..2",
    "127.0.0.1%lo",
    " 127.0.0.1",
    "::",
    "::1",
    "[::1]",
    "::ffff:1.2.3.4",
    "FE80::1%lo",
    "fe80::1%1",
    "fe80::1%nosuch",
    "2001:db8::1%lo",
    "::1\0",
    "::" + "0" * 70,
    "\N{FULLWIDTH DIGIT ONE}.1.1.1",
    b"127.0.0.1",
    b"::1",
    bytearray(b"127.0.0.1"),
    5,
]
PORTS = [None, 0, 80, 65536, -1, 2**70, "80", "080", "", "http", b"80", True, 8.0]
FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX]
TYPES_AND_PROTOS = [
    (0, 0),
    (socket.SOCK_STREAM, 0),
    (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    (socket.SOCK_STREAM, socket.IPPROTO_UDP),
    (socket.SOCK_RAW, 0),
    (0, socket.IPPROTO_TCP),
    (99, 0),
]
FLAGS = [
    0,
    socket.AI_PASSIVE,
    socket.AI_CANONNAME,
    socket.AI_NUMERICSERV,
    socket.AI_V4MAPPED | socket.AI_ALL,
    socket.AI_ADDRCONFIG,
    1 << 20,
]


class Refusing(ThreadPoolExecutor):
    def submit(self, *args, **kwargs):
        raise AssertionError("a thread was asked")


async def outcome(awaitable):
    try:
        return await awaitable
    except Exception as error:
        return type(error), error.args


def outcome_of_socket(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error), error.args


# With AI_NUMERICHOST, so that no name server is asked for the odd ones.
@pytest.mark.parametrize("host", HOSTS, ids=repr)
async def test_getaddrinfo_answers_as_the_socket_module(loop, host):
    for port, family, (kind, proto), flags in itertools.product(
        PORTS, FAMILIES, TYPES_AND_PROTOS, FLAGS
    ):
        keywords = {
            "family": family,
            "type": kind,
            "proto": proto,
            "flags": flags | socket.AI_NUMERICHOST,
        }
        found = await outcome(loop.getaddrinfo(host, port, **keywords))
        expected = outcome_of_socket(socket.getaddrinfo, host, port, **keywords)
        assert found == expected, (port, keywords)
        if isinstance(expected, list):
            assert [list(map(type, entry)) for entry in found] == [
                list(map(type, entry)) for entry in expected
            ]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.1", b"::1", None, "fe80::1%lo"])
@pytest.mark.parametrize("flags", FLAGS[:-1])
async def test_numeric_hosts_without_the_flag(loop, host, flags):
    for port, family, (kind, proto) in itertools.product(PORTS, FAMILIES, TYPES_AND_PROTOS):
        keywords = {"family": family, "type": kind, "proto": proto, "flags": flags}
        found = await outcome(loop.getaddrinfo(host, port, **keywords))
        assert found == outcome_of_socket(socket.getaddrinfo, host, port, **keywords)


@pytest.mark.parametrize(
    "wrong", [{"family": None}, {"type": "1"}, {"proto": 2**40}, {"flags": 0.0}]
)
async def test_wrong_types_are_the_socket_modules_errors(loop, wrong):
    found = await outcome(loop.getaddrinfo("127.0.0.1", 80, **wrong))
    assert found == outcome_of_socket(socket.getaddrinfo, "127.0.0.1", 80, **wrong)


async def test_names_are_resolved_in_a_thread(loop):
    assert await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM) == socket.getaddrinfo(
        "localhost", 80, type=socket.SOCK_STREAM
    )


@pytest.mark.stock_fails("asks a thread for each address")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", b"1.2.3.4", None])
async def test_numeric_hosts_need_no_thread(loop, host):
    with Refusing() as executor:
        loop.set_default_executor(executor)
        assert await loop.getaddrinfo(host, 80) == socket.getaddrinfo(host, 80)
        address = ("127.0.0.1", 80)
        numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        assert await loop.getnameinfo(address, numeric) == ("127.0.0.1", "80")


async def test_replaced_getaddrinfo_is_asked(loop, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: ["replaced", *args])
    assert await loop.getaddrinfo("127.0.0.1", 80, family=1, type=2, proto=3, flags=4) == [
        "replaced",
        "127.0.0.1",
        80,
        1,
        2,
        3,
        4,
    ]


@pytest.mark.parametrize(
    "address",
    [("127.0.0.1", 80), ("::1", 80, 0, 0), ("fe80::1", 1, 0, 1), ("x", 1), (), None, "no"],
)
@pytest.mark.parametrize(
    "flags",
    [
        socket.NI_NUMERICHOST | socket.NI_NUMERICSERV,
        socket.NI_NUMERICHOST | socket.NI_NUMERICSERV | socket.NI_DGRAM | socket.NI_NAMEREQD,
        "3",
        None,
    ],
)
async def test_getnameinfo_answers_as_the_socket_module(loop, address, flags):
    found = await outcome(loop.getnameinfo(address, flags))
    assert found == outcome_of_socket(socket.getnameinfo, address, flags)


async def test_getnameinfo_by_name(loop):
    address = ("127.0.0.1", 80)
    assert await loop.getnameinfo(address, socket.NI_NUMERICHOST) == socket.getnameinfo(
        address, socket.NI_NUMERICHOST
    )


@pytest.mark.parametrize("method", ["getaddrinfo", "getnameinfo"])
def test_closed_loop(loop_factory, method):
    loop = loop_factory()
    loop.close()
    args = ("127.0.0.1", 80) if method == "getaddrinfo" else (("127.0.0.1", 80), 3)
    coroutine = getattr(loop, method)(*args)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        coroutine.send(None)


def test_both_are_coroutine_functions(loop_factory):
    loop = loop_factory()
    assert inspect.iscoroutinefunction(loop.getaddrinfo)
    assert inspect.iscoroutinefunction(loop.getnameinfo)
    loop.close()


def test_audit_hooks_hear_of_a_numeric_host_once_and_may_refuse():
    pytest.importorskip("hoop")
    program = """
        import asyncio, sys, hoop
        heard = []

        def hook(event, args):
            if event == "socket.getaddrinfo":
                heard.append(args)
                if args[0] == "127.0.0.2":
                    raise PermissionError("no")

        sys.addaudithook(hook)

        async def main():
            loop = asyncio.get_running_loop()
            await loop.getaddrinfo("127.0.0.1", 80)
            try:
                await loop.getaddrinfo("127.0.0.2", 80, type=1)
            except PermissionError as error:
                print(error)

        hoop.run(main())
        print(heard)
    """
    printed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert printed == ["no", "[('127.0.0.1', 80, 0, 0, 0), ('127.0.0.2', 80, 0, 1, 0)]"]
