"""The one exception whose message is for the person at the command line."""

import threading
from collections.abc import Iterable

#: What to do about a thread or a process that the system refuses.
TOO_MANY_PROCESSES = (
    "this user has as many processes and threads as the system allows (ulimit -u); raise that, or end some"
)
#: Letters of an error's line.
LONGEST = 2000


class UserError(ValueError):
    """Bad input. Its single line names the value, what was expected and the way out; main prints no traceback.

    A value is named as it was given: what in it would end the line or steer the terminal is escaped.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


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


def one_line(text: str) -> str:
    """The text as one line of a terminal: what would break it or steer the terminal is escaped, what is long is cut.

    Surrogates stand for bytes of a file's name, which `trqam_jax.console` writes as they are.
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return "".join(
        letter if letter.isprintable() or "\udc80" <= letter <= "\udcff" else _escaped(letter) for letter in text
    )


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode()
