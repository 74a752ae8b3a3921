"""Timelines kept in child processes: sorting and searching must not touch the latency of online reads."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, TypeVar
from zlib import crc32

import pyarrow as pa
from millrace.runtime.errors import Unavailable
from millrace.runtime.forks import end_with_parent

from services.feature_store.adapters.timeline_arrow import Timeline
from services.feature_store.domain.views import CompiledView
from services.feature_store.ports import Held, Question, Told

T = TypeVar("T")
Timelines = dict[str, Timeline]
# What one child of ProcessShelf holds; a parent never fills its own.
_OF_THIS_CHILD: Timelines = {}


def _add(name: str, view: CompiledView, events: pa.Table, timelines: Timelines) -> int:
    return timelines.setdefault(name, Timeline(view)).add(events)


def _seal(name: str, view: CompiledView, timelines: Timelines) -> Held:
    return timelines.setdefault(name, Timeline(view)).seal()


def _read(name: str, question: Question, timelines: Timelines) -> Told:
    return timelines[name].read(question)


def _drop(name: str, timelines: Timelines) -> None:
    timelines.pop(name, None)
    # Freed memory goes back at once: a bound on what is held would be one in name only.
    pa.default_memory_pool().release_unused()


def _in_child(work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    return work(*arguments, _OF_THIS_CHILD)


class _Shelf:
    """A TimelineShelf over something that runs functions elsewhere."""

    async def add(self, name: str, view: CompiledView, events: pa.Table) -> None:
        """As `TimelineShelf.add`."""
        await self._run(name, _add, name, view, events)

    async def seal(self, name: str, view: CompiledView) -> Held:
        """As `TimelineShelf.seal`."""
        return await self._run(name, _seal, name, view)

    async def read(self, name: str, question: Question) -> Told:
        """As `TimelineShelf.read`."""
        return await self._run(name, _read, name, question)

    async def drop(self, name: str) -> None:
        """As `TimelineShelf.drop`."""
        await self._run(name, _drop, name)

    async def _run(self, name: str, work: Callable[..., T], *arguments: Any) -> T:
        raise NotImplementedError


class ThreadShelf(_Shelf):
    """Timelines in this process."""

    def __init__(self) -> None:
        self._timelines: Timelines = {}

    async def _run(self, name: str, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.to_thread(work, *arguments, self._timelines)


class ProcessShelf(_Shelf):
    """Timelines in children that start at first use. A name always goes to the same child; if one dies, what it held
    is loaded anew by those who ask."""

    def __init__(self, processes: int) -> None:
        self._children: list[Executor | None] = [None] * processes

    async def _run(self, name: str, work: Callable[..., T], *arguments: Any) -> T:
        place = crc32(name.encode()) % len(self._children)
        child = self._children[place]
        if child is None:
            # Not forked: the parent has threads, and locks that a child would inherit locked.
            spawn = multiprocessing.get_context("spawn")
            child = self._children[place] = ProcessPoolExecutor(1, spawn, initializer=end_with_parent)
        try:
            return await asyncio.get_running_loop().run_in_executor(child, _in_child, work, arguments)
        except BrokenProcessPool as error:
            self._children[place] = None
            raise Unavailable(f"the process that holds timelines died: {error}") from error

    async def drop(self, name: str) -> None:
        """As `TimelineShelf.drop`."""
        with suppress(Unavailable):  # what held it is gone, and it with that
            await super().drop(name)

    async def close(self) -> None:
        """Ends the children; what they were doing is dropped."""
        children = [child for child in self._children if child is not None]
        self._children = [None] * len(self._children)
        for child in children:
            await asyncio.to_thread(child.shutdown, wait=True, cancel_futures=True)
