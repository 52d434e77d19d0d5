"""The one exception whose message is for the person at the command line."""

import threading
from collections.abc import Iterable

#: What to do about a thread or a process that the system refuses.
TOO_MANY_PROCESSES = (
    "this user has as many processes and threads as the system allows (ulimit -u); raise that, or end some"
)


class UserError(ValueError):
    """Bad input. Its single line names the value, what was expected and the way out; main prints no traceback."""


class DeviceFailed(UserError):
    """A device has failed, or cannot be used: no fault of what it was asked for, which another device may do."""


def suggest(name: str, choices: Iterable[str]) -> str:
    """The nearest choice, if one is near, and all of them, as the end of an error message."""
    import difflib

    choices = list(choices)
    near = difflib.get_close_matches(name, choices, n=1)
    return (f" Did you mean {near[0]!r}?" if near else "") + f" Choices: {', '.join(choices)}."


def start_thread(thread: threading.Thread) -> None:
    """UserError where the system lets this user have no more of them."""
    try:
        thread.start()
    except RuntimeError as error:
        raise UserError(f"{error}; {TOO_MANY_PROCESSES}") from error
