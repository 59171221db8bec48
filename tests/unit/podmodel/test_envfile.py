import pytest

from vk_provider.podmodel.envfile import parse_env_file
from vk_provider.podmodel.errors import PodModelError


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("   K1='a'\n\t\tK2='b'\n", "K2", "b"),
        ("# c\n\nK1='foo'\n  # other\nK2='bar'\n", "K2", "bar"),
        ("K1='foo#not a comment'\n", "K1", "foo#not a comment"),
        ("K1='  foo bar '\n", "K1", "  foo bar "),
        ("K1=''\nK2='x'", "K1", ""),
        ("K1='a=b=c'\n", "K1", "a=b=c"),
        ("K1='x' # comment\n", "K1", "x"),
        ("K1='$VAR ${X}'", "K1", "$VAR ${X}"),
        ("K1='two\nlines'\nK2='z'", "K1", "two\nlines"),
        ("K1='two\nlines'\nK2='z'", "K2", "z"),
        ("K1= 'x'\nK2='y'", "K1", ""),
        ("K1='x'", "OTHER", ""),
        ("K1='x'\r\n\r\n# c\r\nK2='two\r\nlines'\r\n", "K2", "two\nlines"),
    ],
)
def test_values_are_taken_literally_from_single_quotes(text, key, value):
    assert parse_env_file(text, key) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("K1 = 'x'", "at line 1: whitespace before '=' is not allowed"),
        ("='x'", "at line 1: empty variable name"),
        ("K1='x'\nBAD\n", "at line 2: missing '='"),
        ("K1=x", "at line 1: value must be enclosed in single quotes"),
        ('K1="x"', "value must be enclosed in single quotes"),
        ("K1='x''y'", "at line 1: unexpected content after closing quote"),
        ("\nK1='x\ny", "starting at line 2: unclosed single quote"),
    ],
)
def test_a_malformed_line_is_named(text, message):
    with pytest.raises(PodModelError, match=message):
        parse_env_file(text, "K2")
