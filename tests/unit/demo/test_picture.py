"""Figures over time as a picture of characters."""

from __future__ import annotations

from tests.demo.picture import Sample, draw


def test_the_picture_shows_the_rise_and_the_fall() -> None:
    heights = [1, 1, 2, 5, 5, 1]
    samples = [Sample(number * 10.0, 20.0, height, height, height * 0.006) for number, height in enumerate(heights)]
    assert draw(samples, 6).splitlines() == [
        "          answers a second",
        "      20 │██████",
        "         │██████",
        "          Ready pods",
        "       5 │   ██",
        "         │   ██",
        "         │   ██",
        "         │  ███",
        "         │██████",
        "          instances",
        "       5 │   ██",
        "         │   ██",
        "         │   ██",
        "         │  ███",
        "         │██████",
        "          USD an hour",
        "  0.0300 │   ██",
        "         │   ██",
        "         │  ▅██",
        "         │▆▆███▆",
        "         └──────",
        "          0 s   50 s",
    ]


def test_more_looks_than_columns_are_drawn_by_the_newest_of_each_and_gaps_by_what_was_before() -> None:
    samples = [Sample(float(number), 0.0, number % 5, 1, 0.0) for number in range(1000)]
    lines = draw(samples, 50).splitlines()
    assert max(map(len, lines)) <= 10 + 50 + 6
    sparse = [Sample(0.0, 1.0, 3, 3, 1.0), Sample(1.0, 1.0, 3, 3, 1.0), Sample(100.0, 1.0, 3, 3, 1.0)]
    assert "  │███" in draw(sparse, 50)
    assert draw([]) == ""
