#!/usr/bin/env bash
# A decorator that times an asynchronous generator has to wrap it in another one, and to close the inner one with the outer one.
#
# Expected: that is what `contextlib.aclosing` is for, so a wrapper that uses it can be left anywhere: whoever closes the outer
#   generator closes the inner one, once.
# Seen: the event loop keeps a list of every generator that was begun, the inner one too, and at its end closes them all at the same
#   time. The outer one's `aclosing` and the loop meet at the inner one, as soon as that awaits something while it is closed: the
#   second `aclose()` raises RuntimeError, "asynchronous generator is already running", which the loop reports to its exception
#   handler. Without a wrapper, or with one that leaves the inner generator alone, nothing is reported.
# Why it matters to telemetry: instrumentation wraps other people's generators, and then their programs log an error at their end
#   that they did not have. A wrapper can begin the inner generator while `sys.set_asyncgen_hooks(None, None)` is in force: the loop
#   does not know it then, and the outer one closes it.
# Versions: CPython 3.11.7 and 3.13.0; 2026-11-29. PYTHON names another one.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/wrapped.py" <<'END'
import asyncio
import contextlib
import sys


async def numbers():
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)


def wrapped(function):
    async def timed():
        async with contextlib.aclosing(function()) as inner:
            async for item in inner:
                yield item

    return timed


def unknown_to_the_loop(function):
    async def timed():
        inner = function()
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            step = inner.__anext__()
        finally:
            sys.set_asyncgen_hooks(*hooks)
        async with contextlib.aclosing(inner):
            yield await step
            async for item in inner:
                yield item

    return timed


def reported(function):
    told, kept = [], []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
        kept.append(function())
        await anext(kept[0])

    asyncio.run(main())
    return [f"{type(error).__name__}: {error}" for error in told]


print("CPython", sys.version.split()[0])
print("as it is:", reported(numbers))
print("wrapped:", reported(wrapped(numbers)))
print("wrapped, unknown to the loop:", reported(unknown_to_the_loop(numbers)))
END
"${PYTHON:-python3}" "$folder/wrapped.py" | tee "$folder/out"
grep -q '^as it is: \[\]$' "$folder/out"
grep -q '^wrapped: .*RuntimeError.*already running' "$folder/out" || { echo "changed" >&2; exit 1; }
grep -q '^wrapped, unknown to the loop: \[\]$' "$folder/out" || { echo "changed" >&2; exit 1; }
