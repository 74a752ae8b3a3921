"""A bare grpc.aio server that answers `/bench.Echo/<case>` with the bytes it was given for the case, and nothing else.

`python -m bench.echo FOLDER`: one case per file of the folder. It prints its port and ends when standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

DEADLINE_S = 30.0


@asynccontextmanager
async def echoing(folder: Path, replies: Mapping[str, bytes]) -> AsyncIterator[tuple[Process, str]]:
    """The server in a process of its own for a block, with its address; `folder` is made."""
    await asyncio.to_thread(_write, folder, replies)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.echo", str(folder), stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        yield process, f"127.0.0.1:{int(await asyncio.wait_for(process.stdout.readline(), DEADLINE_S))}"
    finally:
        process.kill()
        await process.wait()


def _write(folder: Path, replies: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for case, reply in replies.items():
        (folder / case).write_bytes(reply)


async def serve(replies: dict[str, bytes]) -> None:
    """Until standard input ends."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bench.Echo", _handlers(replies))])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    await server.stop(None)


def _handlers(replies: dict[str, bytes]) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    def answering(reply: bytes) -> grpc.RpcMethodHandler[Any, Any]:
        async def answer(request: bytes, context: object) -> bytes:
            return reply

        return grpc.unary_unary_rpc_method_handler(answer)

    return {case: answering(reply) for case, reply in replies.items()}


if __name__ == "__main__":
    asyncio.run(serve({file.name: file.read_bytes() for file in Path(sys.argv[1]).iterdir()}))
