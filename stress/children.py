"""A call in a forked process with limits, and how it ended."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proda_lib.errors import ProdaError

REFUSED, READ, OTHER, DIED, LATE = "refused", "read", "another error", "died", "too late"
OUTCOMES = (REFUSED, READ, OTHER, DIED, LATE)


@dataclass(frozen=True)
class Ending:
    """How a call ended.

    Attributes:
        outcome: one of :data:`OUTCOMES`; "refused" is an error of :mod:`proda_lib.errors`.
        message: type and text of the error, or the signal that ended the process.
        memory: bytes by which the process grew at its peak. ``seconds``: wall-clock time of the call.
    """

    outcome: str
    message: str = ""
    memory: int = 0
    seconds: float = 0.0


def outcome_of(call: Callable[[], object]) -> Ending:
    """Call it here and say how that ended."""
    try:
        call()
    except ProdaError as error:
        return Ending(REFUSED, f"{type(error).__name__}: {error}"[:500])
    except Exception as error:
        return Ending(OTHER, f"{type(error).__name__}: {error}"[:500])
    return Ending(READ)


def in_child(call: Callable[[], object], seconds: float = 20.0, memory: int = 2 * 2**30) -> Ending:
    """Call it in a fork of this process, whose imports are done, with limits on time and on memory beyond ours."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=_child, args=(call, sender, memory))
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            return Ending(LATE, f"more than {seconds:g} s", seconds=seconds)
        return receiver.recv()
    except EOFError:
        process.join()
        return Ending(DIED, signal.Signals(-process.exitcode).name if process.exitcode < 0 else f"{process.exitcode}")
    finally:
        process.kill()
        process.join()
        receiver.close()


def limit_memory(extra: int) -> None:
    """Let this process have ``extra`` bytes of address space beyond what it has."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + extra, size + extra))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _child(call: Callable[[], object], sender, memory: int) -> None:
    faulthandler.disable()
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    limit_memory(memory)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    ending = outcome_of(call)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    sender.send(Ending(ending.outcome, ending.message, grown, time.perf_counter() - started))
    sender.close()
    os._exit(0)
