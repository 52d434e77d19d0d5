"""The one exception whose message is for the person at the command line."""

from collections.abc import Iterable

#: Letters of an error's line.
LONGEST = 2000


class UserError(ValueError):
    """Bad input. Its single line names the value, what was expected and the way out; main prints no traceback.

    A value is named as it was given: what in it would end the line or steer the terminal is escaped.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


def suggest(name: str, choices: Iterable[str]) -> str:
    """The nearest choice, if one is near, and all of them, as the end of an error message."""
    import difflib

    choices = list(choices)
    near = difflib.get_close_matches(name, choices, n=1)
    return (f" Did you mean {near[0]!r}?" if near else "") + f" Choices: {', '.join(choices)}."


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
