# SPDX-License-Identifier: MIT
"""Arguments that are refused, contradict each other, or are odd and accepted."""

import asyncio
import os
import pathlib
import signal
import socket
import ssl

from probekit import Datagrams, probe, table

HERE = ("127.0.0.1", 0)


def connect(*args, **kwargs):
    """A call of create_connection with these arguments; `sock` may be a callable of the probe."""

    def call(p):
        given = {k: v(p) if callable(v) else v for k, v in kwargs.items()}
        return p.loop.create_connection(p.factory(), *args, **given)

    return call


def tcp(p):
    return p.socket()


def udp(p):
    return p.socket(socket.AF_INET, socket.SOCK_DGRAM)


def blocking(p):
    sock = p.socket()
    sock.setblocking(True)
    return sock


def closed(p):
    sock = p.socket()
    sock.close()
    return sock


def bound(p):
    sock = p.socket()
    sock.bind(HERE)
    return sock


def context(p):
    return ssl.create_default_context()


table(
    "create_connection",
    {
        "nothing": connect(),
        "only-host": connect("127.0.0.1"),
        "port-none": connect("127.0.0.1", None),
        "host-none": connect(None, 1),
        "host-and-sock": connect("127.0.0.1", 1, sock=tcp),
        "sock-udp": connect(sock=udp),
        "sock-closed": connect(sock=closed),
        "sock-int": connect(sock=3),
        "sock-unconnected": connect(sock=tcp),
        "sock-blocking": connect(sock=blocking),
        "sock-and-local-addr": connect(sock=tcp, local_addr=HERE),
        "server-hostname-without-ssl": connect("127.0.0.1", 1, server_hostname="x"),
        "handshake-timeout-without-ssl": connect("127.0.0.1", 1, ssl_handshake_timeout=1),
        "shutdown-timeout-without-ssl": connect("127.0.0.1", 1, ssl_shutdown_timeout=1),
        "ssl-sock-without-hostname": connect(ssl=True, sock=tcp),
        "ssl-true-no-host": connect(None, 1, ssl=True),
        "ssl-str": connect("127.0.0.1", 1, ssl="x"),
        "ssl-int": connect("127.0.0.1", 1, ssl=5),
        "ssl-zero-timeout": connect(
            "127.0.0.1", 1, ssl=context, ssl_handshake_timeout=0, server_hostname="x"
        ),
        "unknown-keyword": connect("127.0.0.1", 1, nonsense=1),
        "too-many": connect("127.0.0.1", 1, 2),
        "port-negative": connect("127.0.0.1", -1),
        "port-too-large": connect("127.0.0.1", 65536),
        "port-word": connect("127.0.0.1", "no-such-service"),
        "port-float": connect("127.0.0.1", 1.5),
        "host-int": connect(5, 1),
        "host-tuple": connect(("a", "b"), 1),
        "host-odd": connect("999.1.1.1", 1, flags=socket.AI_NUMERICHOST),
        "host-nul": connect("a\0b", 1),
        "host-too-long": connect("a" * 300, 1),
        "family-odd": connect("127.0.0.1", 1, family=12345),
        "family-mismatch": connect("127.0.0.1", 1, family=socket.AF_INET6),
        "proto-odd": connect("127.0.0.1", 1, proto=250),
        "flags-odd": connect("127.0.0.1", 1, flags=1 << 28),
        "refused": connect("127.0.0.1", 1),
        "refused-all-errors": connect("127.0.0.1", 1, all_errors=True),
        "refused-happy": connect("127.0.0.1", 1, happy_eyeballs_delay=0.01),
        "refused-happy-all": connect("127.0.0.1", 1, happy_eyeballs_delay=0, all_errors=True),
        "refused-interleave": connect("127.0.0.1", 1, interleave=1),
        "interleave-text": connect("127.0.0.1", 1, interleave="x"),
        "delay-text": connect("127.0.0.1", 1, happy_eyeballs_delay="x"),
        "local-addr-text": connect("127.0.0.1", 1, local_addr="x"),
        "local-addr-short": connect("127.0.0.1", 1, local_addr=("127.0.0.1",)),
        "local-addr-other-family": connect("127.0.0.1", 1, local_addr=("::1", 0)),
        "local-addr-not-ours": connect("127.0.0.1", 1, local_addr=("192.0.2.1", 0)),
        "local-addr-unknown": connect("127.0.0.1", 1, local_addr=("no host", 0)),
    },
)


def serve(*args, **kwargs):
    """The same for create_server."""

    def call(p):
        given = {k: v(p) if callable(v) else v for k, v in kwargs.items()}
        return p.loop.create_server(p.factory(), *args, **given)

    return call


def sockets_of(result):
    async def call(p):
        server = await result(p)
        names = sorted(f"{s.family} {s.getsockname()[0]}" for s in server.sockets)
        flags = sorted({(s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR),
                         s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT),
                         s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
                        for s in server.sockets})  # fmt: skip
        p.note(names, flags, server.is_serving(), len(server.sockets))
        return server

    return call


table(
    "create_server",
    {
        "nothing": serve(),
        "host-and-sock": serve("127.0.0.1", 0, sock=bound),
        "sock-udp": serve(sock=udp),
        "sock-closed": serve(sock=closed),
        "sock-int": serve(sock=3),
        "sock-unbound": sockets_of(serve(sock=tcp)),
        "sock-bound": sockets_of(serve(sock=bound)),
        "ssl-bool": serve(*HERE, ssl=True),
        "ssl-false": serve(*HERE, ssl=False),
        "ssl-text": serve(*HERE, ssl="x"),
        "ssl-context": serve(*HERE, ssl=context),
        "handshake-timeout-without-ssl": serve(*HERE, ssl_handshake_timeout=1),
        "shutdown-timeout-without-ssl": serve(*HERE, ssl_shutdown_timeout=1),
        "unknown-keyword": serve(*HERE, nonsense=1),
        "port-word": serve("127.0.0.1", "no-such-service"),
        "port-text": sockets_of(serve("127.0.0.1", "0")),
        "port-none": sockets_of(serve("127.0.0.1", None)),
        "port-negative": serve("127.0.0.1", -1),
        "port-too-large": serve("127.0.0.1", 65536),
        "host-none": sockets_of(serve(None, 0)),
        "host-empty": sockets_of(serve("", 0)),
        "host-bytes": sockets_of(serve(b"127.0.0.1", 0)),
        "host-list": sockets_of(serve(["127.0.0.1", "::1"], 0)),
        "host-repeated": sockets_of(serve(["127.0.0.1", "127.0.0.1"], 0)),
        "host-int": serve(5, 0),
        "host-list-of-none": serve([None], 0),
        "host-list-empty": sockets_of(serve([], 0)),
        "host-not-ours": serve("192.0.2.1", 0),
        "host-unknown": serve("no host", 0),
        "family-inet6": sockets_of(serve(None, 0, family=socket.AF_INET6)),
        "family-odd": serve("127.0.0.1", 0, family=12345),
        "reuse-address": sockets_of(serve(*HERE, reuse_address=False)),
        "reuse-port": sockets_of(serve(*HERE, reuse_port=True)),
        "keep-alive": sockets_of(serve(*HERE, keep_alive=True)),
        "start-serving-later": sockets_of(serve(*HERE, start_serving=False)),
        "backlog-zero": sockets_of(serve(*HERE, backlog=0)),
        "backlog-negative": sockets_of(serve(*HERE, backlog=-5)),
        "backlog-text": serve(*HERE, backlog="x"),
        "backlog-float": serve(*HERE, backlog=1.5),
        "factory-none": lambda p: p.loop.create_server(None, *HERE),
        "factory-coroutine": lambda p: p.loop.create_server(p.settle, *HERE),
    },
)


def unix(*args, **kwargs):
    def call(p):
        given = {k: v(p) if callable(v) else v for k, v in kwargs.items()}
        positional = [a(p) if callable(a) else a for a in args]
        return p.loop.create_unix_connection(p.factory(), *positional, **given)

    return call


def a_file(p):
    path = os.path.join(p.folder, "file")
    with open(path, "w") as file:
        file.write("no socket")
    return path


def stale(p):
    path = os.path.join(p.folder, "stale")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    return path


def in_use(p):
    path = os.path.join(p.folder, "used")
    sock = p.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    return path


def fresh(p):
    return os.path.join(p.folder, "new")


def fresh_bytes(p):
    return os.fsencode(fresh(p))


def fresh_path(p):
    return pathlib.Path(fresh(p))


def in_no_folder(p):
    return os.path.join(p.folder, "no", "such")


def unix_socket(p):
    return p.socket(socket.AF_UNIX)


def unix_datagram(p):
    return p.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


table(
    "create_unix_connection",
    {
        "nothing": unix(),
        "path-and-sock": unix("x", sock=unix_socket),
        "sock-tcp": unix(sock=tcp),
        "sock-datagram": unix(sock=unix_datagram),
        "sock-closed": unix(sock=closed),
        "sock-unconnected": unix(sock=unix_socket),
        "hostname-without-ssl": unix("x", server_hostname="x"),
        "ssl-without-hostname": unix("x", ssl=True),
        "timeout-without-ssl": unix("x", ssl_handshake_timeout=1),
        "shutdown-without-ssl": unix("x", ssl_shutdown_timeout=1),
        "missing": unix(fresh),
        "a-file": unix(a_file),
        "stale": unix(stale),
        "in-use": unix(in_use),
        "bytes": unix(fresh_bytes),
        "pathlike": unix(fresh_path),
        "abstract-missing": unix("\0hoop-no-such-name"),
        "abstract-missing-bytes": unix(b"\0hoop-no-such-name"),
        "int": unix(5),
        "too-long": unix("x" * 200),
        "empty": unix(""),
        "nul-inside": unix("a\0b"),
        "unknown-keyword": unix("x", nonsense=1),
    },
)


def unix_server(*args, **kwargs):
    def call(p):
        given = {k: v(p) if callable(v) else v for k, v in kwargs.items()}
        positional = [a(p) if callable(a) else a for a in args]
        return p.loop.create_unix_server(p.factory(), *positional, **given)

    return call


def path_left(call):
    """What is at the path while the server listens and after it is closed."""

    async def run(p):
        server = await call(p)
        p.note(server.sockets[0].getsockname(), sorted(os.listdir(p.folder)))
        server.close()
        await p.settle()
        p.note(sorted(os.listdir(p.folder)), server.sockets, server.is_serving())

    return run


table(
    "create_unix_server",
    {
        "nothing": unix_server(),
        "path-and-sock": unix_server("x", sock=unix_socket),
        "sock-tcp": unix_server(sock=tcp),
        "sock-datagram": unix_server(sock=unix_datagram),
        "sock-closed": unix_server(sock=closed),
        "sock-unbound": unix_server(sock=unix_socket),
        "ssl-bool": unix_server(fresh, ssl=True),
        "timeout-without-ssl": unix_server(fresh, ssl_handshake_timeout=1),
        "shutdown-without-ssl": unix_server(fresh, ssl_shutdown_timeout=1),
        "path": path_left(unix_server(fresh)),
        "bytes": path_left(unix_server(fresh_bytes)),
        "pathlike": path_left(unix_server(fresh_path)),
        "stale": path_left(unix_server(stale)),
        "a-file": unix_server(a_file),
        "in-use": path_left(unix_server(in_use)),
        "missing-folder": unix_server(in_no_folder),
        "abstract-bytes": unix_server(b"\0hoop-probe-abstract-bytes"),
        "int": unix_server(5),
        "too-long": unix_server("x" * 200),
        "cleanup-false": path_left(unix_server(fresh, cleanup_socket=False)),
        "cleanup-true": path_left(unix_server(fresh, cleanup_socket=True)),
        "start-serving-later": path_left(unix_server(fresh, start_serving=False)),
        "unknown-keyword": unix_server(fresh, nonsense=1),
    },
)

table(
    "connect_accepted_socket",
    {
        "udp": lambda p: p.loop.connect_accepted_socket(p.factory(), udp(p)),
        "closed": lambda p: p.loop.connect_accepted_socket(p.factory(), closed(p)),
        "int": lambda p: p.loop.connect_accepted_socket(p.factory(), 3),
        "none": lambda p: p.loop.connect_accepted_socket(p.factory(), None),
        "timeout-without-ssl": lambda p: p.loop.connect_accepted_socket(
            p.factory(), p.pair()[0], ssl_handshake_timeout=1
        ),
        "shutdown-without-ssl": lambda p: p.loop.connect_accepted_socket(
            p.factory(), p.pair()[0], ssl_shutdown_timeout=1
        ),
        "ssl-bool": lambda p: p.loop.connect_accepted_socket(p.factory(), p.pair()[0], ssl=5),
        "factory-raises": lambda p: p.loop.connect_accepted_socket(lambda: 1 / 0, p.pair()[0]),
    },
)


def start_tls(*args, **kwargs):
    async def call(p):
        transport, protocol, _ = await p.connected()
        given = [a(p) if callable(a) else a for a in args]
        return await p.loop.start_tls(transport, protocol, *given, **kwargs)

    return call


table(
    "start_tls",
    {
        "none": start_tls(None),
        "bool": start_tls(True),
        "hostname-on-server": start_tls(context, server_side=True, server_hostname="x"),
        "timeout-zero": start_tls(context, server_side=True, ssl_handshake_timeout=0),
        "timeout-negative": start_tls(context, server_side=True, ssl_handshake_timeout=-1),
        "timeout-text": start_tls(context, server_side=True, ssl_handshake_timeout="x"),
        "shutdown-zero": start_tls(context, server_side=True, ssl_shutdown_timeout=0),
        "timeout": start_tls(context, server_hostname="x", ssl_handshake_timeout=0.01),
        "transport-none": lambda p: p.loop.start_tls(None, p.make(), context(p)),
        "transport-other": lambda p: p.loop.start_tls(asyncio.Transport(), p.make(), context(p)),
    },
)


def datagram(*args, **kwargs):
    def call(p):
        given = {k: v(p) if callable(v) else v for k, v in kwargs.items()}
        return p.loop.create_datagram_endpoint(p.factory(kind=Datagrams), *args, **given)

    return call


table(
    "create_datagram_endpoint",
    {
        "nothing": datagram(),
        "family-only": datagram(family=socket.AF_INET),
        "sock-and-local": datagram(local_addr=HERE, sock=udp),
        "sock-and-remote": datagram(remote_addr=HERE, sock=udp),
        "sock-and-family": datagram(family=socket.AF_INET, sock=udp),
        "sock-and-reuse-port": datagram(reuse_port=True, sock=udp),
        "sock-and-broadcast": datagram(allow_broadcast=True, sock=udp),
        "sock-and-proto": datagram(proto=17, sock=udp),
        "sock-tcp": datagram(sock=tcp),
        "sock-closed": datagram(sock=closed),
        "sock": datagram(sock=udp),
        "reuse-address": datagram(HERE, reuse_address=True),
        "local-text": datagram("127.0.0.1"),
        "local-short": datagram(("127.0.0.1",)),
        "local-long": datagram(("127.0.0.1", 0, 0)),
        "remote-text": datagram(None, "127.0.0.1"),
        "families-differ": datagram(("127.0.0.1", 0), ("::1", 1)),
        "local-not-ours": datagram(("192.0.2.1", 0)),
        "unix-local-int": datagram(5, family=socket.AF_UNIX),
        "unix-local-file": lambda p: p.loop.create_datagram_endpoint(
            p.factory(kind=Datagrams), a_file(p), family=socket.AF_UNIX
        ),
        "unix-remote-missing": lambda p: p.loop.create_datagram_endpoint(
            p.factory(kind=Datagrams), None, fresh(p), family=socket.AF_UNIX
        ),
        "unknown-keyword": datagram(HERE, nonsense=1),
        "factory-raises": lambda p: p.loop.create_datagram_endpoint(lambda: 1 / 0, HERE),
    },
)


def executor(function, *args, executor=None):
    return lambda p: p.loop.run_in_executor(executor, function, *args)


table(
    "executors",
    {
        "not-callable": executor(5),
        "no-function": lambda p: p.loop.run_in_executor(None),
        "wrong-executor": executor(abs, 1, executor=5),
        "raises": executor(int, "x"),
        "result": executor(abs, -1),
        "default-of-wrong-type": lambda p: p.loop.set_default_executor(5),
        "default-none": lambda p: p.loop.set_default_executor(None),
        "coroutine-function": lambda p: p.loop.run_in_executor(None, p.settle),
    },
)

table(
    "names",
    {
        "getaddrinfo": lambda p: p.loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM),
        "getaddrinfo-nothing": lambda p: p.loop.getaddrinfo(None, None),
        "getaddrinfo-text": lambda p: p.loop.getaddrinfo("127.0.0.1", "80"),
        "getaddrinfo-bytes": lambda p: p.loop.getaddrinfo(b"127.0.0.1", b"80"),
        "getaddrinfo-positional": lambda p: p.loop.getaddrinfo("127.0.0.1", 80, 2),
        "getaddrinfo-unknown": lambda p: p.loop.getaddrinfo("no host", 1),
        "getaddrinfo-int": lambda p: p.loop.getaddrinfo(5, 1),
        "getaddrinfo-float-port": lambda p: p.loop.getaddrinfo("127.0.0.1", 1.5),
        "getaddrinfo-family": lambda p: p.loop.getaddrinfo("127.0.0.1", 1, family=99),
        "getnameinfo": lambda p: p.loop.getnameinfo(("127.0.0.1", 80), 3),
        "getnameinfo-text": lambda p: p.loop.getnameinfo("127.0.0.1", 3),
        "getnameinfo-short": lambda p: p.loop.getnameinfo(("127.0.0.1",), 3),
        "getnameinfo-host": lambda p: p.loop.getnameinfo(("no host", 1), 3),
        "getnameinfo-port": lambda p: p.loop.getnameinfo(("127.0.0.1", 70000), 3),
        "getnameinfo-flags": lambda p: p.loop.getnameinfo(("127.0.0.1", 80), "x"),
    },
)

table(
    "signals",
    {
        "number-zero": lambda p: p.loop.add_signal_handler(0, print),
        "number-large": lambda p: p.loop.add_signal_handler(1000, print),
        "number-text": lambda p: p.loop.add_signal_handler("SIGINT", print),
        "number-float": lambda p: p.loop.add_signal_handler(2.0, print),
        "number-bool": lambda p: p.loop.add_signal_handler(False, print),
        "kill": lambda p: p.loop.add_signal_handler(signal.SIGKILL, print),
        "stop": lambda p: p.loop.add_signal_handler(signal.SIGSTOP, print),
        "coroutine": lambda p: p.loop.add_signal_handler(signal.SIGUSR1, p.settle),
        "remove-unknown": lambda p: p.loop.remove_signal_handler(signal.SIGUSR1),
        "remove-zero": lambda p: p.loop.remove_signal_handler(0),
        "remove-text": lambda p: p.loop.remove_signal_handler("x"),
    },
)


@probe
async def signal_handler_not_callable(p):
    p.call(p.loop.add_signal_handler, signal.SIGUSR1, 5)
    os.kill(os.getpid(), signal.SIGUSR1)
    await p.settle()
    p.call(p.loop.remove_signal_handler, signal.SIGUSR1)
    p.call(p.loop.remove_signal_handler, signal.SIGUSR1)


def sock_call(name, *args):
    """A sock_* method on one end of a socket pair."""

    def call(p):
        first, second = p.pair()
        second.send(b"1234")
        given = [a(p) if callable(a) else a for a in args]
        return getattr(p.loop, name)(first, *given)

    return call


def other_sock_call(name, make, *args):
    return lambda p: getattr(p.loop, name)(make(p), *args)


table(
    "sock",
    {
        "recv": sock_call("sock_recv", 2),
        "recv-zero": sock_call("sock_recv", 0),
        "recv-negative": sock_call("sock_recv", -1),
        "recv-text": sock_call("sock_recv", "x"),
        "recv-no-size": sock_call("sock_recv"),
        "recv-closed": other_sock_call("sock_recv", closed, 1),
        "recv-none": other_sock_call("sock_recv", lambda p: None, 1),
        "recv-int": other_sock_call("sock_recv", lambda p: 0, 1),
        "recv-unconnected": other_sock_call("sock_recv", tcp, 1),
        "recv-into": sock_call("sock_recv_into", bytearray(3)),
        "recv-into-empty": sock_call("sock_recv_into", bytearray()),
        "recv-into-bytes": sock_call("sock_recv_into", b"xxx"),
        "recv-into-none": sock_call("sock_recv_into", None),
        "recvfrom": sock_call("sock_recvfrom", 3),
        "recvfrom-negative": sock_call("sock_recvfrom", -1),
        "recvfrom-into": sock_call("sock_recvfrom_into", bytearray(3)),
        "recvfrom-into-size": sock_call("sock_recvfrom_into", bytearray(3), 2),
        "recvfrom-into-too-large": sock_call("sock_recvfrom_into", bytearray(3), 5),
        "recvfrom-into-negative": sock_call("sock_recvfrom_into", bytearray(3), -1),
        "sendall": sock_call("sock_sendall", b"x"),
        "sendall-empty": sock_call("sock_sendall", b""),
        "sendall-text": sock_call("sock_sendall", "x"),
        "sendall-none": sock_call("sock_sendall", None),
        "sendall-list": sock_call("sock_sendall", [1]),
        "sendall-closed": other_sock_call("sock_sendall", closed, b"x"),
        "sendall-unconnected": other_sock_call("sock_sendall", tcp, b"x"),
        "sendto-text": other_sock_call("sock_sendto", udp, "x", ("127.0.0.1", 9)),
        "sendto": other_sock_call("sock_sendto", udp, b"x", ("127.0.0.1", 9)),
        "sendto-address-text": other_sock_call("sock_sendto", udp, b"x", "x"),
        "sendto-address-none": other_sock_call("sock_sendto", udp, b"x", None),
        "sendto-name": other_sock_call("sock_sendto", udp, b"x", ("no host", 9)),
        "connect-refused": other_sock_call("sock_connect", tcp, ("127.0.0.1", 1)),
        "connect-text": other_sock_call("sock_connect", tcp, "x"),
        "connect-none": other_sock_call("sock_connect", tcp, None),
        "connect-short": other_sock_call("sock_connect", tcp, ("127.0.0.1",)),
        "connect-port": other_sock_call("sock_connect", tcp, ("127.0.0.1", 70000)),
        "connect-name": other_sock_call("sock_connect", tcp, ("no host", 9)),
        "connect-closed": other_sock_call("sock_connect", closed, ("127.0.0.1", 1)),
        "connect-unix-missing": lambda p: p.loop.sock_connect(unix_socket(p), fresh(p)),
        "connect-unix-bytes": lambda p: p.loop.sock_connect(unix_socket(p), fresh_bytes(p)),
        "connect-unix-path": lambda p: p.loop.sock_connect(unix_socket(p), fresh_path(p)),
        "connect-twice": lambda p: p.loop.sock_connect(p.pair()[0], "x"),
        "accept-not-listening": other_sock_call("sock_accept", bound),
        "accept-closed": other_sock_call("sock_accept", closed),
        "accept-udp": other_sock_call("sock_accept", udp),
        "accept-none": other_sock_call("sock_accept", lambda p: None),
    },
)
table(
    "sock_debug",
    {
        name: other_sock_call(name, blocking, *args)
        for name, *args in (
            ("sock_recv", 1),
            ("sock_recv_into", bytearray(1)),
            ("sock_recvfrom", 1),
            ("sock_recvfrom_into", bytearray(1)),
            ("sock_sendall", b"x"),
            ("sock_sendto", b"x", ("127.0.0.1", 9)),
            ("sock_connect", ("127.0.0.1", 1)),
            ("sock_accept",),
        )
    },
    debug=True,
)


def sendfile(*args, sock=True, mode="rb", **kwargs):
    """sock_sendfile or sendfile of a file of 100 bytes."""

    async def call(p):
        path = os.path.join(p.folder, "data")
        with open(path, "wb") as file:
            file.write(b"d" * 100)
        file = p.stack.enter_context(open(path, mode))
        given = [a(p) if callable(a) else a for a in args]
        if sock:
            result = await p.loop.sock_sendfile(p.pair()[0], file, *given, **kwargs)
        else:
            transport, _, peer = await p.connected()
            result = await p.loop.sendfile(transport, file, *given, **kwargs)
            p.note("arrived", len(peer.recv(1000)) if result else 0)
        p.note("at", file.tell())
        return result

    return call


_SENDFILE = {
    "plain": ((), {}),
    "offset": ((10,), {}),
    "count": ((10, 20), {}),
    "offset-beyond": ((200,), {}),
    "count-beyond": ((0, 1000), {}),
    "count-zero": ((0, 0), {}),
    "count-negative": ((0, -1), {}),
    "count-text": ((0, "x"), {}),
    "count-float": ((0, 1.5), {}),
    "offset-negative": ((-1,), {}),
    "offset-text": (("x",), {}),
    "offset-none": ((None,), {}),
    "offset-float": ((1.5,), {}),
    "no-fallback": ((), {"fallback": False}),
    "text-mode": ((), {"mode": "r"}),
}
for _key, (_args, _kwargs) in _SENDFILE.items():
    table("sock_sendfile", {_key: sendfile(*_args, **_kwargs)})
    table("sendfile", {_key: sendfile(*_args, sock=False, **_kwargs)})

table(
    "sendfile",
    {
        "transport-none": lambda p: p.loop.sendfile(None, None),
        "transport-other": lambda p: p.loop.sendfile(asyncio.Transport(), None),
    },
)


@probe
async def sendfile_on_closing_transport(p):
    transport, _, _ = await p.connected()
    transport.close()
    await p.wait(p.loop.sendfile, transport, None)


table(
    "pipes",
    {
        "read-none": lambda p: p.loop.connect_read_pipe(p.factory(), None),
        "write-none": lambda p: p.loop.connect_write_pipe(p.factory(), None),
        "read-file": lambda p: p.loop.connect_read_pipe(
            p.factory(), p.stack.enter_context(open(a_file(p), "rb"))
        ),
        "write-file": lambda p: p.loop.connect_write_pipe(
            p.factory(), p.stack.enter_context(open(a_file(p), "wb"))
        ),
        "factory-raises": lambda p: p.loop.connect_read_pipe(lambda: 1 / 0, p.pair()[0]),
    },
)


def child(*args, shell=False, **kwargs):
    def call(p):
        method = p.loop.subprocess_shell if shell else p.loop.subprocess_exec
        return method(asyncio.SubprocessProtocol, *args, **kwargs)

    return call


table(
    "subprocess",
    {
        "missing": child("/no/such/program"),
        "universal-newlines": child("true", universal_newlines=True),
        "text": child("true", text=True),
        "encoding": child("true", encoding="utf-8"),
        "errors": child("true", errors="strict"),
        "bufsize": child("true", bufsize=5),
        "shell": child("true", shell_=True),
        "exec-with-shell": lambda p: p.loop.subprocess_exec(
            asyncio.SubprocessProtocol, "true", shell=True
        ),
        "shell-list": child(["true"], shell=True),
        "shell-universal": child("true", shell=True, universal_newlines=True),
        "shell-bufsize": child("true", shell=True, bufsize=1),
        "shell-int": child(5, shell=True),
        "exec-int": child(5),
        "exec-argument-int": child("true", 5),
        "exec-nothing": lambda p: p.loop.subprocess_exec(asyncio.SubprocessProtocol),
        "cwd-missing": child("true", cwd="/no/such/folder"),
        "nul": child("tr\0ue"),
        "env-nul": child("true", env={"a": "\0"}),
        "stdin-odd": child("true", stdin="x"),
        "pass-fds-odd": child("true", pass_fds=("x",)),
        "user-unknown": child("true", user="no such user"),
    },
)
