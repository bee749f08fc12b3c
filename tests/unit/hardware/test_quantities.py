from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.hardware import quantities


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1500m", Fraction(3, 2)),
        ("2", Fraction(2)),
        (4, Fraction(4)),
        ("0.1", Fraction(1, 10)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("1Ki", Fraction(1024)),
        ("1k", Fraction(1000)),
        ("8Ei", Fraction(8 * 2**60)),
        ("1E", Fraction(10**18)),
        ("1E3", Fraction(1000)),
        ("12e-1", Fraction(6, 5)),
        ("100n", Fraction(1, 10**7)),
        ("-1u", Fraction(-1, 10**6)),
        ("2813876k", Fraction(2813876000)),
    ],
)
def test_a_quantity_is_read_exactly(text, value):
    assert quantities.parse(text) == value


@pytest.mark.parametrize("text", ["", "five", "1KiB", "1 Gi", "1e", "--1", "Ki", "1e99999", "0x10", "٣"])
def test_what_is_no_quantity_is_refused_with_its_text(text):
    with pytest.raises(quantities.InvalidQuantityError, match="is not a quantity"):
        quantities.parse(text)


def test_what_a_node_has_is_rounded_down_and_what_a_pod_asks_for_up():
    assert (quantities.millis_down("0.0015"), quantities.millis_up("0.0015")) == (1, 2)
    assert (quantities.whole_down("1500m"), quantities.whole_up("1500m")) == (1, 2)


@given(st.integers(min_value=0, max_value=2**70))
def test_rounding_never_changes_a_whole_number(number):
    assert quantities.whole_down(number) == quantities.whole_up(str(number)) == number
