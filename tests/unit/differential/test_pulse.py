"""Whether the machine kept up while a pair was played."""

from tests.differential.pulse import Pulse


def test_the_latest_beat_since_a_moment_says_how_long_processes_waited() -> None:
    pulse = Pulse()
    for due, came in ((1.0, 1.01), (2.0, 4.5), (5.0, 5.2)):
        pulse.note(due, came)
    assert pulse.worst_since(0.0) == 2.5
    assert round(pulse.worst_since(4.6), 3) == 0.2
    assert pulse.worst_since(6.0) == 0.0
