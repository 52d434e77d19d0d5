"""Programs compiled ahead: from shapes alone, in threads, while the process does what comes before them.

XLA compiles without Python's lock. A program must still run in the main thread (`backend.keep_freed_memory`). Imports
no JAX: commands come by here.
"""

import atexit
import os
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NoReturn

from trqam_jax.errors import UserError, start_thread

if TYPE_CHECKING:
    import jax.stages

_threads: set[threading.Thread] = set()  # that compile
_status: int | None = None  # of a process that waits for none of them


class Ahead:
    """A program that a thread compiles from now on. It was traced and lowered by whoever asks for it, under the
    precision and for the platform that hold there."""

    def __init__(self, lowered: "jax.stages.Lowered", options: Mapping[str, Any] | None = None):
        """options: XLA's, as of `Lowered.compile`."""
        self.shapes = lowered.out_info  # of what the program returns
        self._program: Future[jax.stages.Compiled] = Future()
        if not _threads:
            atexit.unregister(_wait_or_leave)
            atexit.register(_wait_or_leave)  # after JAX's own handler, and so to be called before it
        # A daemon, because Python waits for others before it calls any handler.
        thread = threading.Thread(target=self._compile, args=(lowered, options), name="compile", daemon=True)
        _threads.add(thread)
        try:
            start_thread(thread)
        except UserError:
            _threads.discard(thread)
            raise

    def _compile(self, lowered: "jax.stages.Lowered", options: Mapping[str, Any] | None) -> None:
        try:
            self._program.set_result(lowered.compile(dict(options) if options else None))
        except BaseException as error:  # raised where the program is asked for
            self._program.set_exception(error)
        finally:
            _threads.discard(threading.current_thread())

    def result(self) -> "jax.stages.Compiled":
        """The program, waited for; or what the compiler raised."""
        return self._program.result()


def leave(status: int | str) -> NoReturn:
    """End the process as `sys.exit` does, but wait for no program: XLA cannot be stopped, and takes up to a minute."""
    global _status
    _status = status if isinstance(status, int) else 1
    sys.exit(status)


def _wait_or_leave() -> None:
    """At the interpreter's end, which a thread in XLA would break."""
    if _threads and _status is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_status)
    for thread in list(_threads):
        thread.join()
