"""The page of results."""

from tests.conformance.journal import SpecResult
from tests.conformance.results import Circumstances, area_title, parse_causes, render, shorten, tally

HERE = Circumstances("labels `X`", "v1.37.2", "abc", "2 CPUs", "2026-01-02", 4, 90.0, 2)


def result(name: str, state: str = "passed", message: str = "", area: str = "[sig-node] Pods") -> SpecResult:
    return SpecResult(f"[sig-node] Pods {name}", area, state, 3.0, message, "/x/test/e2e/common/node/pods.go:77")


def test_the_page_counts_and_names_every_spec_that_did_not_pass() -> None:
    results = [result("a"), result("b", "failed", "timed out\n  waiting"), result("c", "skipped", "needs 2 nodes")]
    page = render(HERE, results, ["[sig-storage] d"], [])
    assert "**1 of 4 passed**, 1 failed, 1 skipped by the spec itself, 1 not run." in page
    assert "| sig-node / Pods | 1 | 1 | 1 |  |" in page
    assert "| sig-storage | 0 |  |  | 1 |" in page
    assert "- **[sig-node] Pods b** (failed after 3 s)" in page
    assert "  - message at common/node/pods.go:77: timed out waiting" in page
    assert "- [sig-node] Pods c: needs 2 nodes" in page
    assert "| wall time | 1.5 min in 2 sittings, 4 at a time |" in page


def test_a_cause_written_by_hand_stands_beside_the_failure_it_matches() -> None:
    causes = parse_causes('[[cause]]\nmatch = "Pods b$"\ntext = "the cloud has no such thing"\n')
    page = render(HERE, [result("b", "failed", "x"), result("e", "failed", "y")], [], causes)
    assert page.count("cause: the cloud has no such thing") == 1
    assert page.index("**[sig-node] Pods b") < page.index("cause:") < page.index("**[sig-node] Pods e")


def test_a_page_without_failures_has_no_list_of_them() -> None:
    assert "## " not in render(HERE, [result("a")], [], [])


def test_messages_are_one_short_line_without_addresses() -> None:
    assert shorten("a\n\tb {0xc000123456}") == "a b {0x…}"
    assert len(shorten("x" * 1000)) == 400


def test_areas_come_from_the_outermost_container() -> None:
    assert area_title("[sig-node] Pods should run", "[sig-node] Pods") == "sig-node / Pods"
    assert area_title("[sig-cli] x", "") == "sig-cli"
    assert tally([result("a"), result("b", "panicked")])["sig-node / Pods"].total == 2
