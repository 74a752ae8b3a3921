"""The parts alone: a plain grpc.aio server of the same parts, with nothing of what ours is there for.

`/bench.Bare/<case>` waits for what its case asks of the parts (nothing, one MGET, the broker's acknowledgement of the
request), and answers with the bytes of the case. `python -m bench.bare FILE`: the cases as JSON. It prints its port and
ends when standard input ends.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import redis.asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.codec import has_lz4
from millrace.stores.redis import connect

DEADLINE_S = 30.0


@dataclass(frozen=True)
class Case:
    """What is answered; before it `keys` are read from the Redis of that URL in one MGET, or the request is appended to
    `topic` of these Kafka servers and acknowledged."""

    reply: bytes
    redis: str = ""
    keys: Sequence[str] = ()
    kafka: str = ""
    topic: str = ""


@asynccontextmanager
async def bare(file: Path, cases: Mapping[str, Case]) -> AsyncIterator[tuple[Process, str]]:
    """The server in a process of its own for a block, with its address; `file` is made."""
    await asyncio.to_thread(_write, file, cases)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.bare", str(file), stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        yield process, f"127.0.0.1:{int(await asyncio.wait_for(process.stdout.readline(), DEADLINE_S))}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def method(channel: grpc.aio.Channel, case: str) -> Any:
    """The case as a callable: bytes in, bytes out."""
    return channel.unary_unary(f"/bench.Bare/{case}", None, None)


async def serve(cases: Mapping[str, Case]) -> None:
    """Until standard input ends."""
    async with AsyncExitStack() as stack:
        handlers = {name: await _handler(case, stack) for name, case in cases.items()}
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Bare", handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.buffer.read)
        await server.stop(None)


async def _handler(case: Case, stack: AsyncExitStack) -> grpc.RpcMethodHandler[Any, Any]:
    before: Before = _nothing
    if case.keys:
        before = _reading(await stack.enter_async_context(connect(case.redis)), list(case.keys))
    elif case.topic:
        before = _appending(await stack.enter_async_context(_producer(case.kafka)), case.topic)

    async def answer(request: bytes, context: object) -> bytes:
        await before(request)
        return case.reply

    return grpc.unary_unary_rpc_method_handler(answer)


Before = Callable[[bytes], Awaitable[object]]


async def _nothing(request: bytes) -> None:
    pass


def _reading(client: redis.asyncio.Redis, keys: list[str]) -> Before:
    async def read(request: bytes) -> None:
        await client.mget(keys)

    return read


def _appending(producer: AIOKafkaProducer, topic: str) -> Before:
    async def append(request: bytes) -> None:
        await producer.send_and_wait(topic, request)

    return append


def _producer(servers: str) -> AIOKafkaProducer:
    """As the rooms write: nothing counts before the broker has it."""
    return AIOKafkaProducer(
        bootstrap_servers=servers, enable_idempotence=True, acks="all", compression_type="lz4" if has_lz4() else None
    )


def _write(file: Path, cases: Mapping[str, Case]) -> None:
    told = {name: asdict(case) | {"reply": base64.b64encode(case.reply).decode()} for name, case in cases.items()}
    file.write_text(json.dumps(told))


def _read(file: Path) -> dict[str, Case]:
    told: dict[str, dict[str, Any]] = json.loads(file.read_text())
    return {name: Case(**{**case, "reply": base64.b64decode(case["reply"])}) for name, case in told.items()}


if __name__ == "__main__":
    asyncio.run(serve(_read(Path(sys.argv[1]))))
