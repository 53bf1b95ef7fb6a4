# SPDX-License-Identifier: MIT
"""Well-known servers and clients on the loop: aiohttp, uvicorn, redis-py with a real server."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time

import pytest
from loopkit import connect_to, in_thread, read_all

# Their own deprecation warnings on new Pythons are not this suite's business.
pytestmark = pytest.mark.filterwarnings("default")


async def test_aiohttp_server_and_client(loop):
    web = pytest.importorskip("aiohttp.web")
    aiohttp = pytest.importorskip("aiohttp")

    async def echo(request):
        return web.Response(body=await request.read(), headers={"X-Path": request.path})

    async def chunks(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for i in range(50):
            await response.write(b"%03d" % i)
        await response.write_eof()
        return response

    async def websocket(request):
        socket_ = web.WebSocketResponse()
        await socket_.prepare(request)
        async for message in socket_:
            await socket_.send_str(message.data.upper())
        return socket_

    app = web.Application(client_max_size=8 << 20)
    app.router.add_post("/echo", echo)
    app.router.add_get("/chunks", chunks)
    app.router.add_get("/websocket", websocket)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    base = "http://{}:{}".format(*runner.addresses[0])
    async with aiohttp.ClientSession() as session:
        for size in (0, 10, 3_000_000):
            body = b"b" * size
            async with session.post(f"{base}/echo", data=body) as response:
                assert response.status == 200
                assert response.headers["X-Path"] == "/echo"
                assert await response.read() == body

        async def one(i):
            async with session.post(f"{base}/echo", data=b"%d" % i) as response:
                return await response.read()

        assert await asyncio.gather(*map(one, range(100))) == [b"%d" % i for i in range(100)]
        async with session.get(f"{base}/chunks") as response:
            assert await response.read() == b"".join(b"%03d" % i for i in range(50))
        async with session.ws_connect(f"{base}/websocket") as socket_:
            for text in ("hello", "x" * 100_000):
                await socket_.send_str(text)
                assert (await socket_.receive()).data == text.upper()
    await runner.cleanup()


async def serve_uvicorn(app, **options):
    uvicorn = pytest.importorskip("uvicorn")
    config = uvicorn.Config(app, log_level="warning", lifespan="off", **options)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    sock = socket.create_server(("127.0.0.1", 0))
    task = asyncio.ensure_future(server.serve([sock]))
    while not server.started:
        await asyncio.sleep(0.001)
    return server, task, sock


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_uvicorn(loop, http):
    pytest.importorskip(http)

    async def app(scope, receive, send):
        message = await receive()
        body = message.get("body", b"")
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"<", body, b">"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    server, task, sock = await serve_uvicorn(app, http=http)

    def request(body):
        with connect_to(sock.getsockname()) as peer:
            head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            peer.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
            return read_all(peer)

    for size in (100, 200_000):
        answer = await in_thread(request, b"u" * size)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.count(b"u" * size) == 1
    answers = await asyncio.gather(*(in_thread(request, b"%05d" % i) for i in range(20)))
    assert all(b"%05d" % i in answer for i, answer in enumerate(answers))
    server.should_exit = True
    await task
    sock.close()


@pytest.fixture(scope="module")
def redis_address(tmp_path_factory):
    """A redis server of our own on a TCP port and a unix socket."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("NO REDIS-SERVER: run tests/interop/install.sh (it needs apt)")
    folder = tmp_path_factory.mktemp("redis")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    path = f"{folder}/redis.sock"
    process = subprocess.Popen(
        [
            program,
            *("--bind", "127.0.0.1"),
            *("--port", str(port)),
            *("--unixsocket", path),
            *("--dir", str(folder)),
            *("--save", ""),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                connect_to(("127.0.0.1", port)).close()
                connect_to(path).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, "redis didn't start"
                time.sleep(0.01)
        yield port, path
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("how", ["tcp", "unix"])
async def test_redis(loop, redis_address, how):
    redis = pytest.importorskip("redis.asyncio")
    port, path = redis_address
    where = {"host": "127.0.0.1", "port": port} if how == "tcp" else {"unix_socket_path": path}
    client = redis.Redis(**where)
    await client.flushall()
    assert await client.ping()
    large = b"v" * 2_000_000
    await client.set("large", large)
    assert await client.get("large") == large
    assert await asyncio.gather(*(client.incr("counter") for _ in range(50))) is not None
    assert int(await client.get("counter")) == 50
    async with client.pipeline() as pipe:
        for i in range(200):
            pipe.set(f"key{i}", i)
        await pipe.execute()
    assert [int(v) for v in await client.mget([f"key{i}" for i in range(200)])] == list(range(200))
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("channel")
        await pubsub.get_message(timeout=5)
        await client.publish("channel", "news")
        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
        assert message["data"] == b"news"
    with pytest.raises((TimeoutError, asyncio.TimeoutError)):
        await asyncio.wait_for(client.blpop("nothing", timeout=0), 0.01)
    await client.aclose()
