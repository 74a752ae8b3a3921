"""`make demo`: months of real flights through seven services, with two faults. Exit 0 only when the loop closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

from millrace.bus.kafka import KafkaBus
from rich.console import Console
from rich.markup import escape

from examples.flights.demo import report as reporting
from examples.flights.demo.bars import Bars
from examples.flights.demo.platform import Platform
from examples.flights.demo.story import Story
from examples.flights.demo.table import show
from examples.flights.demo.trouble import PLAIN, DemoError, reason
from examples.flights.events import events

HOME = Path(".millrace/demo")


def months_asked(text: str) -> tuple[int, ...]:
    """`7-9`, `1-12` or `7`: months of 2013. Raises DemoError with one line for anything else."""
    first, _, last = text.partition("-")
    try:
        months = tuple(range(int(first), int(last or first) + 1))
    except ValueError:
        months = ()
    if not months or months[0] < 1 or months[-1] > 12:
        raise DemoError(f"DEMO_MONTHS={text!r} is no range of months: write it like 7-9 or 1-12")
    return months


class Stopped(Exception):
    """Ctrl-C or SIGTERM: everything was stopped in good order. `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Cancels the present task at the first SIGINT or SIGTERM; the block then ends with Stopped.

    Further ones change nothing: `make` and `timeout` pass on what the group got already, and stopping is bounded.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    asked: list[int] = []

    def stop(number: int) -> None:
        if not asked:
            asked.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    except asyncio.CancelledError:
        if asked:
            raise Stopped(asked[0]) from None
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def clear(home: Path) -> None:
    """Removes what an earlier demo left. Raises DemoError where that cannot be done."""
    try:
        if home.exists():
            shutil.rmtree(home)
    except OSError as error:
        raise DemoError(f"{home} of an earlier demo cannot be removed: {error}") from error


@contextlib.asynccontextmanager
async def running(platform: Platform, bars: Bars) -> AsyncIterator[None]:
    """The platform runs for the block, and nothing of it afterwards, whatever ended the block or the start."""
    try:
        with bars.phase("starting") as step:
            await platform.start(step)
        yield
    finally:
        with bars.phase("stopping everything"):
            await to_its_end(platform.command("down"))


async def to_its_end(work: Coroutine[Any, Any, Any]) -> None:
    """Awaits `work`, also when cancelled meanwhile: a stop that is cut off would leave the platform running."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.result()
        raise


async def play(platform: Platform, months: tuple[int, ...], bars: Bars, started: float) -> reporting.Report:
    """The story on a running platform, and its report; `started`: when the demo began, on the monotonic clock."""
    started_s = round(time.monotonic() - started, 2)
    with bars.phase("reading the data"):
        recorded = await asyncio.to_thread(events, months)
        gc.freeze()  # they stay to the end: the garbage collector need not walk a quarter of a million of them
    story = Story(platform, recorded, bars)
    story.happened.durations_s["start"] = started_s
    bus = KafkaBus(platform.part("kafka"), "millrace-demo")
    try:
        witness = await story.run(bus)
    finally:
        await bus.stop()
    with bars.phase("weighing what was seen") as step:
        found = await reporting.gather(story, witness, step)
    found["durations_s"]["total"] = round(time.monotonic() - started, 2)
    return found


async def tell_story(months: tuple[int, ...], console: Console) -> int:
    """Runs the demo; returns the exit status. Raises Stopped, DemoError."""
    started = time.monotonic()
    platform, bars = Platform(HOME), Bars(console)
    found: reporting.Report = {}
    try:
        with stopped_by_signals(), bars:
            if (HOME / "run").exists():
                await platform.command("down")  # an earlier demo that still runs would lose the files that find it
            clear(HOME)
            async with running(platform, bars):
                found = await play(platform, months, bars, started)
                with bars.phase("drawing the report"):
                    reporting.write(found, HOME)
    finally:
        if found:
            show(found, HOME / "report.html", console)
    return reporting.exit_status(found)


def main() -> None:
    """Entry point."""
    console = Console(highlight=False)
    try:
        sys.exit(asyncio.run(tell_story(months_asked(os.environ.get("DEMO_MONTHS", "7-9")), console)))
    except Stopped as stopped:
        console.print("stopped; nothing is left running")
        sys.exit(128 + stopped.number)
    except PLAIN as error:
        console.print(f"[bold red]failed:[/] {escape(reason(error))}", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
