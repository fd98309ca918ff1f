"""What a table says of two lists of measurements."""

import pytest

from scenarios.session import report


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([100, 100, 100], [90, 90, 90], "-10.00 %"),
        ([100, 102, 98], [90, 91, 89], "-10.00 %"),
        ([100, 150, 50], [90, 91, 89], "-10.00 % n.s."),
        ([100], [90], "-10.00 %"),
        ([0, 0], [1, 1], "-"),
    ],
)
def test_a_change_within_twice_its_standard_error_is_called_not_significant(before, after, said):
    assert report.change(before, after) == said


def test_millions_are_the_mean_with_the_standard_deviation_of_the_mean():
    assert report.millions([1e6, 3e6]) == "2.00 M +- 50.00 %"
    assert report.millions([1.5e6]) == "1.50 M"
