"""When a table is mended."""

from __future__ import annotations

from vk_provider.agent.proxy.pacing import MAX_S, QUIET_S, MendPacing


def test_the_first_change_is_mended_at_once_and_each_further_one_later() -> None:
    pacing, now_s, waits = MendPacing(), 1000.0, []
    for _ in range(10):
        due_s = pacing.due_s(now_s)
        waits.append(due_s - now_s)
        now_s = due_s  # the other changes it again as soon as it is mended
    assert waits[0] < 0.1 and sum(waits[:3]) < 1.0
    assert waits == sorted(waits) and waits[-1] == MAX_S


def test_after_a_quiet_time_it_is_the_first_again() -> None:
    pacing = MendPacing()
    for now_s in range(10):
        pacing.due_s(float(now_s))
    assert pacing.due_s(9 + MAX_S + QUIET_S + 1) < 9 + MAX_S + QUIET_S + 1.1
