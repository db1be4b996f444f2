"""`no_runtime`: what is told where a program is called outside of every runtime."""

from __future__ import annotations


def no_runtime(name: str, write: str) -> str:
    """`name` was to be called by `write`, outside of every runtime."""
    made = "Runtime(lm='openai/gpt-4o-mini')"
    block = "async with" if write.startswith("await ") else "with"
    told = f"{name} was called where no Runtime is. Write\n    {block} {made}:\n        {write}"
    if "program" not in write:
        return told
    started = write.replace("program", "started")
    return (
        f"{told}\nor, for services and other threads,\n    rt = {made}.start_up()\n    started = rt.start(program)\n"
        f"    {started}\nwhere `program` is an object, as Predict('question -> answer')\n"
        "In a thread of your own inside of a call, as a pool's in `forward`, hand it the call:\n"
        "    pool.submit(contextvars.copy_context().run, self.predict, question=...)"
    )
