"""TCP proxies that can hold a client and a server apart between two steps, for as long as a test wants.

A proxy forwards whole messages (of Kafka) or what one read returns (of Redis and HTTP, whose commands begin a read).
The next message that an armed `Hold` matches is kept back: the request, before the server has it, or its reply, when
the server has done what was asked and the client does not know yet.
"""

import asyncio
import struct
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import psutil

Match = Callable[[bytes], bool]
READ_BYTES = 1 << 16
_SIZE = struct.Struct(">i")


@dataclass(eq=False)
class Hold:
    """One message to be kept back, once. `held` is set when it is; `client_port` tells whose it was."""

    match: Match
    reply: bool
    loop: asyncio.AbstractEventLoop
    held: threading.Event = field(default_factory=threading.Event)
    client_port: int = 0
    _free: asyncio.Event = field(default_factory=asyncio.Event)
    _dropped: bool = False

    def release(self) -> None:
        """Let it go on; a hold that never matched is taken away."""
        self.loop.call_soon_threadsafe(self._free.set)

    def cut(self) -> None:
        """Drop it, and the connection with it."""
        self._dropped = True
        self.release()

    async def wait(self, client_port: int) -> bool:
        """Until released; whether the message may go on."""
        self.client_port = client_port
        self.held.set()
        await self._free.wait()
        return not self._dropped

    @property
    def spent(self) -> bool:
        """Whether it has had its message, or was taken away."""
        return self.held.is_set() or self._free.is_set()


class Proxy:
    """Forwards a port of its own to `target` (host, port), from a thread of its own; `framed` for Kafka's messages."""

    def __init__(self, target: tuple[str, int], *, framed: bool = False) -> None:
        self._target = target
        self._framed = framed
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._holds: list[Hold] = []
        self.port = 0

    def start(self) -> None:
        """Listens on the loopback address."""
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", self.port), self._loop
        ).result(10)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Ends every connection."""

        async def end() -> None:
            self._server.close()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def hold(self, match: Match, *, reply: bool) -> Hold:
        """Keep back the next message that matches, or the reply to it."""
        made = Hold(match, reply, self._loop)
        self._holds = [hold for hold in self._holds if not hold.spent] + [made]
        return made

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client_port = writer.get_extra_info("peername")[1]
        awaited: dict[bytes, Hold] = {}  # by correlation of the request; b"" where there is none
        try:
            there = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        pumps = [
            asyncio.ensure_future(self._requests(reader, there[1], client_port, awaited)),
            asyncio.ensure_future(self._replies(there[0], writer, client_port, awaited)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            writer.close()
            there[1].close()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, awaited: dict[bytes, Hold]
    ) -> None:
        async for message in self._messages(reader):
            hold = next((h for h in self._holds if not h.spent and h.match(message)), None)
            if hold is not None and hold.reply and not awaited:
                awaited[message[8:12] if self._framed else b""] = hold
            elif hold is not None and not hold.reply and not await hold.wait(port):
                return
            writer.write(message)
            await writer.drain()

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, awaited: dict[bytes, Hold]
    ) -> None:
        async for message in self._messages(reader):
            hold = awaited.pop(message[4:8] if self._framed else b"", None)
            if hold is not None and not hold.spent and not await hold.wait(port):
                return
            writer.write(message)
            await writer.drain()

    async def _messages(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        try:
            while True:
                if self._framed:
                    size = await reader.readexactly(_SIZE.size)
                    yield size + await reader.readexactly(_SIZE.unpack(size)[0])
                elif chunk := await reader.read(READ_BYTES):
                    yield chunk
                else:
                    return
        except (OSError, asyncio.IncompleteReadError):
            return


def kafka_request(api_key: int, client_id: bytes) -> Match:
    """Requests of one kind by one client: 0 is Produce, 8 OffsetCommit."""

    def match(message: bytes) -> bool:
        key, _, _, size = struct.unpack_from(">hhih", message, 4)
        return key == api_key and message[14 : 14 + max(size, 0)].startswith(client_id)

    return match


def containing(*words: bytes) -> Match:
    """Messages whose beginning holds one of the words."""
    return lambda message: any(word in message[:2_000] for word in words)


def owner_of(port: int, pids: list[int]) -> int:
    """Which of the processes has the connection from local port `port`; 0: none."""
    for pid in pids:
        try:
            connections = psutil.Process(pid).net_connections("tcp")
        except psutil.Error:
            continue
        if any(connection.laddr.port == port for connection in connections):
            return pid
    return 0
