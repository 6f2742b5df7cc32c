"""Numbers in words."""

import math

import pytest

from cqox_assets.wording import short, with_unit


@pytest.mark.parametrize("value", [math.inf, 1e308])
def test_what_has_no_bound_is_said_in_words(value):
    assert short(value) == "infinity"
    assert short(-value) == "-infinity"


def test_large_numbers_stay_numbers():
    assert short(2.5e20) == "2.5e+20"
    assert with_unit(-1794.3, "USD") == "-US$1,794"
