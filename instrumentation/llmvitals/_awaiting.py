"""From a thread, the end of what may be async: a check, a clean-up, a closer of the application's own."""

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs here, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def settled(answer: Any, loop: asyncio.AbstractEventLoop | None, timeout_seconds: float) -> Any:
    """*answer*, awaited where it has to be: on *loop*, or without one on a private one. Blocks: call it in a thread.

    Raises TimeoutError when it takes longer than that, and RuntimeError when the loop is closed.
    """
    if not inspect.isawaitable(answer):
        return answer
    coroutine = _within(answer, timeout_seconds)
    if loop is None:
        return asyncio.run(coroutine)
    return _on(loop, coroutine, timeout_seconds)


def _on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], timeout_seconds: float) -> Any:
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        # A little longer than inside: when the loop itself hangs, only this side can tell.
        return future.result(timeout_seconds + 1.0)
    except TimeoutError:
        future.cancel()
        raise


async def _within(answer: Any, seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await answer
