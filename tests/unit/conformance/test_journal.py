"""Reading the journal of a run."""

import json

from tests.conformance.journal import Journal, read_journal

NAME = "[sig-node] Pods should run"


def line(event: str, name: str = NAME, process: int = 1, **more: object) -> str:
    return json.dumps({"event": event, "name": name, "process": process, **more})


def test_a_started_spec_is_running_until_it_finishes() -> None:
    journal = Journal()
    journal.feed(line("started"))
    assert journal.running == {1: NAME}
    result = journal.feed(line("finished", state="passed", seconds=1.5))
    assert result is not None and result.passed and result.seconds == 1.5
    assert journal.running == {}


def test_an_interrupted_spec_has_no_result_and_is_run_again() -> None:
    journal = read_journal("\n".join([line("started"), line("finished", state="interrupted")]))
    assert journal.missing([NAME, "other"]) == [NAME, "other"]


def test_a_spec_that_was_cut_off_is_not_running_in_the_next_sitting() -> None:
    assert read_journal(line("started")).running == {}


def test_the_last_result_of_a_spec_counts() -> None:
    lines = [line("finished", state="failed", message="boom"), line("finished", state="passed")]
    journal = read_journal("\n".join(lines))
    assert journal.failures([NAME]) == []
    assert journal.missing([NAME]) == []


def test_failed_timed_out_and_panicked_specs_are_failures_and_skipped_ones_are_not() -> None:
    states = ("failed", "timedout", "panicked", "skipped", "passed")
    journal = read_journal("\n".join(line("finished", name=state, state=state) for state in states))
    assert journal.failures(states) == ["failed", "timedout", "panicked"]
    assert [name for name, result in journal.results.items() if result.skipped] == ["skipped"]


def test_a_torn_line_is_ignored() -> None:
    whole = line("finished", state="passed")
    journal = read_journal(f"{whole[:20]}\n{whole}\n[]\nnull\n")
    assert list(journal.results) == [NAME]
