"""An error is one line, whatever it names."""

from trqam_jax.errors import LONGEST, UserError


def test_what_would_end_the_line_or_steer_the_terminal_is_escaped():
    assert str(UserError("a\nb\r\x1b[31m\u202e\u2028")) == r"a\nb\r\x1b[31m\u202e\u2028"
    assert str(UserError("± é \udcff")) == "± é \udcff"  # the last is a byte of a name


def test_what_is_long_is_cut():
    text = str(UserError("begin " + "x" * 100_000 + " end"))
    assert len(text) < LONGEST + 10
    assert text.startswith("begin")
    assert text.endswith("end")
