"""Load, nonsense and rudeness for a running server.

    python examples/server/load_test.py --port=8000 --body='{"labels": 3}'

Prints requests per second, the time of half and of 99 % of them, what
malformed requests were answered, and memory and open files before and after.
Needs nothing but Python: requests are written by hand, so that they can be
wrong in any way.
"""

import argparse
import asyncio
import collections
import json
import random
import time


class Client:
    """One who writes bytes to the server and reads what comes back."""

    def __init__(self, host, port):
        self.address = host, port

    async def send(self, data, is_last=False):
        """Sends bytes on a connection of its own.

        Args:
            data: bytes.
            is_last: bool. Whether the server is told that no more come.

        Returns:
            `(status, body)`; status is 0 if the server said nothing.
        """
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(data)
            if is_last:
                writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 120)
        except ConnectionError:
            answer = b""
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        words = head.split()
        return (int(words[1]) if len(words) > 1 else 0), body

    async def leave(self, data, seconds):
        """Sends bytes and goes away after some time."""
        _, writer = await asyncio.open_connection(*self.address)
        writer.write(data)
        await asyncio.sleep(seconds)
        writer.transport.abort()

    async def metrics(self):
        """The numbers of /metrics that bear no labels, by name."""
        _, body = await self.send(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        lines = [x for x in body.decode().splitlines() if x[0] != "#"]
        pairs = (line.rsplit(" ", 1) for line in lines)
        return {name: float(x) for name, x in pairs if "{" not in name}


def post(body):
    """A POST to /generate, bytes."""
    head = (
        "POST /generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def measure_load(client, body, num_clients, num_requests):
    """Sends requests, some at a time; each has another seed."""
    seeds = iter(range(num_requests))
    seconds, statuses = [], collections.Counter()

    async def one_client():
        for seed in seeds:
            began = time.perf_counter()
            data = json.dumps(body | {"seed": seed}).encode()
            status, _ = await client.send(post(data))
            seconds.append(time.perf_counter() - began)
            statuses[status] += 1

    began = time.perf_counter()
    await asyncio.gather(*(one_client() for _ in range(num_clients)))
    total = time.perf_counter() - began
    seconds.sort()
    half, most = seconds[len(seconds) // 2], seconds[len(seconds) * 99 // 100]
    print(
        f"{num_clients} clients: {num_requests / total:.1f} requests/s, "
        f"p50 {1000 * half:.0f} ms, p99 {1000 * most:.0f} ms, "
        f"answers {dict(statuses)}"
    )
    return statuses


def nonsense(body, dice):
    """A request that is wrong in some way, bytes, and whether it ends early."""
    good = json.dumps(body).encode()
    values = [None, True, -1, 1e308, 2**64, "0", [], {}, [[]], "\ud800", [1e9]]
    kind = dice.randrange(6)
    if kind == 0:  # no HTTP
        return dice.randbytes(dice.randrange(1, 200)), True
    if kind == 1:  # no JSON
        return post(dice.randbytes(dice.randrange(100))), False
    if kind == 2:  # a field of the wrong type, or an unknown one
        name = dice.choice([*body, "seed", "steps", "guidance", "x"])
        value = dice.choice(values)
        return post(json.dumps(body | {name: value}).encode()), False
    if kind == 3:  # too long, or nested too deeply
        return post(dice.choice([b" ", b"["]) * dice.randrange(5000)), False
    if kind == 4:  # ends before its length
        return post(good)[: -dice.randrange(1, len(good))], True
    # Some bytes of a good request changed.
    data = bytearray(post(good))
    for _ in range(3):
        data[dice.randrange(len(data))] = dice.randrange(256)
    return bytes(data), True


async def send_nonsense(client, body, num_requests, num_clients=20):
    """Sends malformed requests; no answer may be the server's fault."""
    dice = random.Random(0)
    requests = iter([nonsense(body, dice) for _ in range(num_requests)])
    statuses = collections.Counter()

    async def one_client():
        for data, is_last in requests:
            status, _ = await client.send(data, is_last)
            statuses[status] += 1

    await asyncio.gather(*(one_client() for _ in range(num_clients)))
    print(f"{num_requests} malformed: answers {dict(sorted(statuses.items()))}")
    return statuses


async def leave_early(client, body, num_clients):
    """Clients that ask and go; returns how many orders were dropped."""
    before = (await client.metrics())["dropped_total"]
    dice = random.Random(0)
    await asyncio.gather(
        *(
            client.leave(
                post(json.dumps(body | {"seed": k}).encode()),
                dice.uniform(0, 0.2),
            )
            for k in range(num_clients)
        )
    )
    for _ in range(100):
        await asyncio.sleep(0.1)
        now = await client.metrics()
        if now["waiting_images"] == 0:
            break
    dropped = now["dropped_total"] - before
    print(f"{num_clients} clients left: {dropped:.0f} orders dropped")
    return now["waiting_images"], dropped


async def run(given):
    """All parts, in order; returns the process's exit status."""
    client = Client(given.host, given.port)
    body = json.loads(given.body)
    # What is allocated once, such as buffers, is not a leak.
    await measure_load(client, body, 8, 32)
    before = await client.metrics()
    load = await measure_load(client, body, given.clients, given.requests)
    malformed = await send_nonsense(client, body, given.malformed)
    waiting, _ = await leave_early(client, body, given.leaving)
    await asyncio.sleep(6)  # idle connections are closed after 5
    after = await client.metrics()
    for name in ("process_resident_memory_bytes", "process_open_fds"):
        print(f"{name}: {before[name]:,.0f} before, {after[name]:,.0f} after")
    well = set(load) <= {200, 503} and waiting == 0
    return 0 if well and not {500, 502} & set(malformed) else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--body", default='{"steps": 10}')
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--malformed", type=int, default=10_000)
    parser.add_argument("--leaving", type=int, default=50)
    raise SystemExit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
