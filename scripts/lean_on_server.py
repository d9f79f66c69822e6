"""Measures how a server of r1seg takes a crowd: called by scripts/check-server."""

import asyncio
import collections
import http.client
import json
import sys
import time
import urllib.parse

URL, PID = sys.argv[1], int(sys.argv[2])
HOST, PORT = urllib.parse.urlsplit(URL).hostname, urllib.parse.urlsplit(URL).port
QUESTION = "Can you segment the liver in this image?"


def memory(field):
    """Kilobytes, as Linux counts them."""
    with open(f"/proc/{PID}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))


def call(method, path, body=None):
    connection = http.client.HTTPConnection(HOST, PORT, timeout=120)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, text


def metric(name):
    text = call("GET", "/metrics")[1].decode()
    values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(name + " ")]
    return float(values[0]) if values else 0.0


def until(what, holds, seconds=60):
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < seconds, what
        time.sleep(0.1)
    return time.monotonic() - begin


def request(path, body):
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}:{PORT}\r\nContent-Type: application/json\r\n"
    return head.encode() + f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data


def prompt(volume, stream=False, prompts=1):
    asked = [{"question": QUESTION + " " * n} for n in range(prompts)]
    return {"model": "demo", "volume": volume, "prompts": asked, "stream": stream}


async def status_of(data):
    """The status of a response; 0 where there is none."""
    reader, writer = await asyncio.open_connection(HOST, PORT)
    try:
        writer.write(data)
        await writer.drain()
        line = await reader.readline()
        await reader.read()
        return int(line.split()[1]) if line else 0
    except (ConnectionError, IndexError):
        return 0
    finally:
        writer.close()


async def crowd(volume, count):
    data = request("/v1/segment", prompt(volume))
    return collections.Counter(await asyncio.gather(*(status_of(data) for _ in range(count))))


def many_at_once(volume):
    print("== 1,000 requests at once, a queue of 32")
    before, begin = memory("VmRSS"), time.monotonic()
    statuses = asyncio.run(crowd(volume, 1000))
    seconds = time.monotonic() - begin
    peak = memory("VmHWM")
    print(f"statuses {dict(statuses)} in {seconds:.1f} s; peak {peak / 1024:.0f} MB, before {before / 1024:.0f} MB")
    assert set(statuses) <= {200, 429} and statuses[200] >= 1, statuses
    assert peak - before < 2_000_000, "memory grows with the crowd"
    until("all places are free", lambda: metric("r1seg_in_flight") <= 1)


def many_in_a_row():
    print("== 10,000 requests in a row")
    connection = http.client.HTTPConnection(HOST, PORT, timeout=60)
    paths = ["/v1/health/live", "/v1/info", "/v1/models", "/v1/volumes/vol_0"]

    def some(count):
        for n in range(count):
            connection.request("GET", paths[n % len(paths)])
            connection.getresponse().read()

    some(2000)
    before, begin = memory("VmRSS"), time.monotonic()
    some(10_000)
    seconds = time.monotonic() - begin
    slope = (memory("VmRSS") - before) / 10_000
    print(f"{10_000 / seconds:.0f} requests/s, memory grows by {slope:.3f} kB a request")
    assert slope < 1, "memory grows with every request"


async def slow_heads(count):
    streams = [await asyncio.open_connection(HOST, PORT) for _ in range(count)]
    for _, writer in streams:
        writer.write(b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    begin = time.monotonic()
    status, _ = await asyncio.to_thread(call, "GET", "/v1/info")
    answered = time.monotonic() - begin
    await asyncio.gather(*(asyncio.wait_for(reader.read(), 60) for reader, _ in streams))
    closed = time.monotonic() - begin
    for _, writer in streams:
        writer.close()
    return status, answered, closed


def slow_loris():
    print("== 300 heads that never end")
    status, answered, closed = asyncio.run(slow_heads(300))
    print(f"another client waits {answered * 1000:.0f} ms; all 300 are let go after {closed:.1f} s")
    assert status == 200 and answered < 2 and closed < 30


async def endless():
    reader, writer = await asyncio.open_connection(HOST, PORT)
    head = f"POST /v1/volumes HTTP/1.1\r\nHost: {HOST}:{PORT}\r\nTransfer-Encoding: chunked\r\n"
    writer.write(head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n")
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    writer.write(b"%x\r\n%s\r\n" % (len(part), part))
    block, sent = b"10000\r\n" + bytes(0x10000) + b"\r\n", 0
    try:
        while sent < 1 << 30:
            writer.write(block)
            await writer.drain()
            sent += 0x10000
    except ConnectionError:
        pass
    try:
        line = await reader.readline()
    except ConnectionError:
        line = b""
    writer.close()
    return sent, line.decode().strip()


def endless_body():
    print("== a body without an end, 8 MiB allowed")
    sent, line = asyncio.run(endless())
    stored = metric("r1seg_stored_bytes")
    print(f"let go after {sent / 2**20:.1f} MiB: {line or 'closed'}")
    assert sent < 64 << 20 and line in ("", "HTTP/1.1 413 Payload Too Large")
    return stored


async def leave(volume, count):
    for _ in range(count):
        reader, writer = await asyncio.open_connection(HOST, PORT)
        writer.write(request("/v1/segment", prompt(volume, stream=True, prompts=8)))
        await writer.drain()
        await reader.readline()
        writer.close()


def disconnects(volume):
    print("== 200 clients that leave while they are answered")
    before = metric("r1seg_cancelled_total")
    asyncio.run(leave(volume, 200))
    seconds = until("no model works any more", lambda: metric("r1seg_active") == 0)
    until("nobody waits", lambda: metric("r1seg_queue_depth") == 0)
    print(f"{metric('r1seg_cancelled_total') - before:.0f} were cancelled; idle {seconds:.1f} s after the last one")
    assert call("POST", "/v1/segment", prompt(volume))[0] == 200


def main():
    status, text = call("POST", "/v1/volumes/phantom", {"seed": 7})
    assert status == 201, text
    volume = json.loads(text)["id"]
    begin = time.monotonic()
    assert call("POST", "/v1/segment", prompt(volume))[0] == 200
    print(f"one request takes {time.monotonic() - begin:.2f} s, with the volume encoded")
    many_at_once(volume)
    many_in_a_row()
    slow_loris()
    endless_body()
    disconnects(volume)
    text = call("GET", "/metrics")[1].decode()
    failed = [line for line in text.splitlines() if 'status="5' in line]
    assert not failed, failed
    print("no response of 500 or above")


main()
