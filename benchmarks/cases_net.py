# SPDX-License-Identifier: MIT
"""The cases with a network: a server on the loop in a process of its own, the C client in another.

With one connection both run on one core, or the figure would be the time the machine takes to wake
an idle core; the value is the CPU time of both ends per message, and the time the core was idle,
since then both waited for nothing (talyn lets it idle). With more connections the server
has one core, the client another, and the value is the server's CPU time per message. CPU time is
that of all threads of the process, read by the client at the edges of the measured window.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cprograms

START_TIMEOUT_S = 10.0
MEASURE_TIMEOUT_S = 60.0
IDLE_THRESHOLD = 0.05  # a smaller idle share can't be told from the clock tick
SERVER = Path(__file__).with_name("server.py")

Result = dict[str, Any]


class Failure(Exception):
    """A loop could not be measured; the text is the reason that is reported."""


@dataclass(frozen=True)
class NetCase:
    """One case. `mode` is the load generator's; `proto` the kind of server."""

    name: str
    title: str
    unit: str
    mode: str
    size: int = 64
    connections: int = 1
    proto: str = "protocol"
    unix: bool = False


@dataclass(frozen=True)
class Settings:
    """Cores and durations of a run."""

    server_core: int
    client_core: int
    seconds: float
    warmup: float
    idle_connections: int


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run the block on one core; what it starts inherits that."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def last_line(text: str) -> str:
    """Return the last line with something on it: where programs put the reason they ended."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def server_command(case: NetCase, loop: str, path: str) -> list[str]:
    """Return the command line of the server for a loop or limit."""
    if loop == "c-epoll":
        datagrams = ["--udp"] if case.proto == "udp" else []
        return [str(cprograms.ECHO), *datagrams, path if case.unix else "127.0.0.1:0"]
    where = ["--unix", path] if case.unix else ["--host", "127.0.0.1"]
    fill = ["--fill-heap"] if case.mode == "idle" else []
    return [sys.executable, str(SERVER), "--loop", loop, "--proto", case.proto, *where, *fill]


def read_line(process: subprocess.Popen[str], errors: IO[str]) -> str:
    """Read one line from a server that is starting; Failure with its last words if it ends."""
    assert process.stdout is not None
    signal.alarm(int(START_TIMEOUT_S))
    try:
        line = process.stdout.readline()
    except TimeoutError:
        raise Failure(f"server not listening after {START_TIMEOUT_S:.0f} s") from None
    finally:
        signal.alarm(0)
    if not line:
        process.wait(START_TIMEOUT_S)
        errors.seek(0)
        raise Failure(last_line(errors.read()) or ended(process))
    return line


def ended(process: subprocess.Popen[Any]) -> str:
    """Say how a process ended."""
    code = process.returncode
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"


@contextmanager
def running_server(case: NetCase, loop: str, core: int) -> Iterator[tuple[int, str]]:
    """Start the server; yield its process id and address; kill it at the end."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        path = f"{folder}/echo.sock"
        with pinned(core):
            process = subprocess.Popen(
                server_command(case, loop, path), stdout=subprocess.PIPE, stderr=errors, text=True
            )
        with process:
            try:
                port = int(read_line(process, errors).split()[1])
                try:
                    yield process.pid, path if case.unix else f"127.0.0.1:{port}"
                except Failure as failure:
                    errors.seek(0)
                    words = last_line(errors.read())
                    if process.poll() is not None:
                        words = words or ended(process)
                    raise Failure(f"server: {words} ({failure})" if words else failure) from None
            finally:
                process.kill()


def run_client(arguments: list[str], core: int) -> Result:
    """Run the load generator to its end and return what it printed."""
    with pinned(core):
        try:
            done = subprocess.run(
                [str(cprograms.LOADGEN), *arguments],
                capture_output=True,
                text=True,
                timeout=MEASURE_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"client not done after {MEASURE_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        raise Failure(f"client: {last_line(done.stderr)}")
    result: Result = json.loads(done.stdout)
    return result


def measure_traffic(case: NetCase, loop: str, settings: Settings) -> Result:
    """Measure echo or connect: nanoseconds per message or connection."""
    one_core = case.connections == 1
    client_core = settings.server_core if one_core else settings.client_core
    with running_server(case, loop, settings.server_core) as (pid, address):
        raw = run_client(
            [
                *(case.mode, address),
                *("--connections", str(case.connections)),
                *("--size", str(case.size)),
                *("--seconds", str(settings.seconds)),
                *("--warmup", str(settings.warmup)),
                *("--server", str(pid)),
            ],
            client_core,
        )
    if not raw["operations"]:
        raise Failure("no message came back within the measured time")
    cost = raw["server_ns"]
    idle = raw["idle_ns"] / raw["seconds"] / 1e9
    if one_core:
        cost += raw["client_ns"]
        cost += raw["idle_ns"] if idle > IDLE_THRESHOLD else 0
    return {
        "value": cost / raw["operations"],
        "server": raw["server_ns"] / raw["operations"],
        "client": raw["client_ns"] / raw["operations"],
        "per_second": raw["operations"] / raw["seconds"],
        "idle": idle,
    }


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, counted exactly (statm may be 64 pages off)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise Failure("no Rss in smaps_rollup")


def measure_memory(case: NetCase, loop: str, settings: Settings) -> Result:
    """Measure resident bytes per idle connection that has exchanged one message.

    The first fifth of the connections pays for what exists once (code pages, tables); the growth
    over the others counts. The server has used up its free memory before.
    """
    first = settings.idle_connections // 5
    more = settings.idle_connections - first
    with (
        running_server(case, loop, settings.server_core) as (pid, address),
        subprocess.Popen(
            [str(cprograms.LOADGEN), "idle", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as client,
    ):
        try:
            before = resident_after_opening(first, client, pid)
            after = resident_after_opening(more, client, pid)
        finally:
            client.kill()
    return {"value": (after - before) / more, "connections": more}


def resident_after_opening(count: int, client: subprocess.Popen[str], pid: int) -> int:
    """Have the client open so many more connections; return the server's resident memory."""
    assert client.stdin is not None
    assert client.stdout is not None
    assert client.stderr is not None
    try:
        client.stdin.write(f"{count}\n")
        client.stdin.flush()
        opened = client.stdout.readline()
    except BrokenPipeError:
        opened = ""
    if not opened:
        raise Failure(f"client: {last_line(client.stderr.read())}")
    time.sleep(0.2)
    return resident_bytes(pid)


def measure(case: NetCase, loop: str, settings: Settings) -> Result:
    """Measure one case on one loop; Failure with a reason if that can't be done."""
    if case.mode == "idle":
        return measure_memory(case, loop, settings)
    return measure_traffic(case, loop, settings)


def size_text(size: int) -> str:
    """Return 64 B, 1 KiB and so on."""
    return f"{size // 1024} KiB" if size >= 1024 else f"{size} B"


def echo_case(size: int, connections: int, proto: str = "protocol", unix: bool = False) -> NetCase:
    """Return the echo case with its name and title made from the rest."""
    kind = "unix" if unix else proto
    plural = "connection" if connections == 1 else "connections"
    return NetCase(
        f"echo-{kind}-{size}-{connections}",
        f"{kind} echo {size_text(size)}, {connections} {plural}",
        "us",
        "echo",
        size,
        connections,
        proto,
        unix,
    )


def udp_case(size: int, peers: int) -> NetCase:
    """Return the case of a server socket that echoes datagrams to so many peers."""
    plural = "peer" if peers == 1 else "peers"
    title = f"UDP echo {size_text(size)}, {peers} {plural}"
    return NetCase(f"udp-{size}-{peers}", title, "us", "udp", size, peers, "udp")


KIB = 1024
CASES = [
    *(
        echo_case(size, connections)
        for size in (64, KIB, 16 * KIB, 128 * KIB)
        for connections in (1, 10, 100)
    ),
    *(echo_case(KIB, connections, proto="buffered") for connections in (1, 100)),
    echo_case(128 * KIB, 10, proto="buffered"),
    *(echo_case(KIB, connections, proto="streams") for connections in (1, 100)),
    *(echo_case(KIB, connections, proto="sock") for connections in (1, 100)),
    *(echo_case(128, connections, proto="lines") for connections in (1, 100)),
    *(echo_case(KIB, connections, unix=True) for connections in (1, 100)),
    *(udp_case(KIB, peers) for peers in (1, 100)),
    NetCase("connect", "connect, echo 64 B, close", "us", "connect"),
    NetCase("idle-memory", "memory of an idle connection", "B", "idle"),
]
"""`unit` is what reports show; measurements are in nanoseconds (or bytes) throughout."""
