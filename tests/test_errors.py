"""The typed errors and what their messages offer."""

import inspect

import pytest

from mmsigma import errors
from mmsigma.errors import MMSigmaError, unknown

TYPES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, MMSigmaError) and cls is not MMSigmaError
]


@pytest.mark.parametrize('error', TYPES)
def test_errors_survive_being_raised_again_by_type_and_message(error: type) -> None:
    """MMEngine's registries of some versions do ``raise type(e)(f'... {e}')``."""
    again = type(error('text'))(f'class Foo in foo.py: {error("text")}')
    assert type(again) is error
    assert str(again) == 'class Foo in foo.py: text'
    # Code that knows nothing of mmsigma can catch them as what they are.
    assert issubclass(error, (ValueError, RuntimeError, OSError))


@pytest.mark.parametrize(
    ('given', 'known', 'expected'),
    [
        (
            'SIGNA',
            ['Frozen', 'SIGMA'],
            "Unknown x 'SIGNA'. Did you mean 'SIGMA'? Known: Frozen, SIGMA.",
        ),
        ('zzz', ['Frozen', 'SIGMA'], "Unknown x 'zzz'. Known: Frozen, SIGMA."),
        (7, ['a'], 'Unknown x 7. Known: a.'),
        ('q', map(str, range(22)), '17, 18, 19, ... (22 in all).'),
    ],
)
def test_unknown(given: object, known: list[str], expected: str) -> None:
    message = unknown('x', given, known)
    assert message.endswith(expected)
    assert message.startswith(f'Unknown x {given!r}.')


def test_unknown_ends_with_the_advice() -> None:
    assert unknown('x', 'q', ['a'], 'Do this.') == "Unknown x 'q'. Known: a. Do this."
