import threading
import traceback
from typing import Any

from llmvitals._frames import current_frames

MAX_THREADS = 200
MAX_TEXT = 128 * 1024


def dump_stacks() -> dict[str, Any]:
    """What each thread does now: files, lines and functions, never values."""
    threads = {thread.ident: thread for thread in threading.enumerate()}
    frames = current_frames()
    stacks = []
    budget = MAX_TEXT
    for ident, frame in list(frames.items())[:MAX_THREADS]:
        thread = threads.get(ident)
        text = "".join(traceback.format_stack(frame))
        # The end of a stack is where the thread is.
        text = text[-min(len(text), max(budget, 0)) :] if budget > 0 else ""
        budget -= len(text)
        stacks.append(
            {
                "thread": thread.name if thread is not None else f"unknown-{ident}",
                "daemon": thread.daemon if thread is not None else None,
                "stack": text,
            }
        )
    return {"threads": len(frames), "stacks": stacks}
