"""The page is whole, safe to look at and bounded, whatever runs and however it is called."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import fields
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tests.unit.page.facts import make, make_history
from vk_provider.page.chart import draw_history, rank_namespaces, round_up
from vk_provider.page.document import render_page
from vk_provider.page.facts import CostHistory, NamespaceFacts, NodeFacts, OfferingFacts, PageFacts, find_quantile
from vk_provider.page.style import POLICY

VOID = {"meta"}
FORBIDDEN = {"script", "img", "link", "iframe", "object", "embed", "form", "a", "base", "use", "image"}
LEADING_OUT = {"src", "href", "style", "xlink:href"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=y>\x1b[2J\u202e&amp;'


class Reader(HTMLParser):
    """Elements, attributes and text of a document; says what is not closed."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(document)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.elements}


def assert_is_safe(document: str) -> Reader:
    reader = Reader(document)
    assert not reader.names & {
        "script",
        "img",
        "link",
        "iframe",
        "object",
        "embed",
        "form",
        "a",
        "base",
        "use",
        "image",
    }
    for _, attributes in reader.elements:
        assert not {
            name for name in attributes if name.startswith("on") or name in ("src", "href", "style", "xlink:href")
        }
    return reader


def test_what_is_known_is_shown() -> None:
    text = "\n".join(assert_is_safe(render_page(make())).texts)
    for shown in (
        "nodeless-a",
        "61 of 500",
        "m7i.large",
        "$4.7890",
        "shop",
        "1240",
        "8.20 s",
        "142 s",
        "at most $10.00",
    ):
        assert shown in text, shown


def test_the_sum_is_of_all_that_is_paid_for_as_the_limit_counts_it() -> None:
    facts = make()
    kept = NamespaceFacts("(prepared images)", 0, 1.0, 0.0)
    text = "\n".join(assert_is_safe(render_page(make(namespaces=[*facts.namespaces, kept]))).texts)
    assert "$5.7890" in text and "$4.7890" not in text


def test_nothing_that_somebody_has_named_becomes_markup() -> None:
    facts = make(
        owner=HOSTILE,
        cloud=HOSTILE,
        nodes=[NodeFacts(HOSTILE, HOSTILE, HOSTILE, 1, 2)],
        offerings=[OfferingFacts(HOSTILE, HOSTILE, HOSTILE, 1, 1.0)],
        namespaces=[NamespaceFacts(HOSTILE, 1, 1.0, 2.0)],
        history=make_history([HOSTILE, "x"]),
        stages={HOSTILE: 1},
        launches={HOSTILE: 1},
        shortages=[(HOSTILE, 1.0)],
        problems=[HOSTILE],
    )
    document = render_page(facts)
    reader = assert_is_safe(document)
    assert "\x1b" not in document and "\u202e" not in document
    assert reader.names == assert_is_safe(render_page(make(problems=["p"]))).names
    assert any("<script>alert(1)</script>" in text for text in reader.texts), "as text it is whole"


def test_the_style_sheet_is_the_one_that_the_policy_allows() -> None:
    document = render_page(make())
    (style,) = (part.partition("</style>")[0] for part in document.split("<style>")[1:])
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in POLICY and POLICY.startswith("default-src 'none'")
    assert "unsafe" not in POLICY and "url(" not in style and "@import" not in style


def test_the_page_of_five_thousand_pods_is_small() -> None:
    many = range(5000)
    facts = make(
        nodes=[NodeFacts(f"node-{n}" * 20, "z", "", 1, 1) for n in many],
        phases={"Running": 5000},
        offerings=[OfferingFacts(f"type-{n}", f"zone-{n}", "spot", 1, 0.1) for n in many],
        namespaces=[NamespaceFacts(f"namespace-{n}", 1, 0.1, 0.0) for n in many],
        history=make_history([f"namespace-{n}" for n in many], 96),
        launches={f"result-{n}": 1 for n in many},
        shortages=[(f"type-{n}", 1.0) for n in many],
        problems=["p" * 10_000 for _ in many],
    )
    document = render_page(facts)
    assert len(document) < 120_000
    assert document.count("and 4980 more") == 5


def test_a_provider_that_has_just_started_has_a_page() -> None:
    empty = PageFacts("1", "local", "o", 1.0, 1.0)
    text = " ".join(assert_is_safe(render_page(empty)).texts)
    assert "There is no Node." in text and "Nothing was launched yet." in text
    assert len(fields(PageFacts)) <= 20
    for history in (CostHistory(0.0, 900.0, {}), CostHistory(0.0, 900.0, {"a": [1.0]})):
        assert "Nothing has run yet." in render_page(make(history=history))


def test_the_chart_is_xml_and_its_areas_lie_on_each_other() -> None:
    drawn = draw_history(CostHistory(0.0, 900.0, {"a": [1.0, 3.0], "b": [1.0, 1.0]}))
    svg = ElementTree.fromstring(f"<p>{drawn}</p>").find("svg")
    assert svg is not None
    first, second = (each.get("points", "").split() for each in svg.findall("polygon"))
    assert first[:2] == list(reversed(second[2:])), "what one ends with, the next begins with"
    assert {name for name, _ in rank_namespaces(make_history([f"n{n}" for n in range(20)]))} >= {"others", "n0"}
    assert len(rank_namespaces(make_history([f"n{n}" for n in range(20)]))) == 8


@pytest.mark.parametrize(("value", "top"), [(0.0, 1.0), (0.021, 0.03), (1.0, 1.0), (1.01, 2.0), (2.2, 3.0), (7.0, 8.0)])
def test_an_axis_ends_with_a_round_number(value: float, top: float) -> None:
    assert round_up(value) == pytest.approx(top)


def test_quantiles_are_those_of_prometheus() -> None:
    buckets = [(0.1, 10.0), (1.0, 90.0), (float("inf"), 100.0)]
    assert find_quantile(buckets, 0.5) == pytest.approx(0.1 + 0.9 * 40 / 80)
    assert find_quantile(buckets, 0.05) == pytest.approx(0.05)
    assert find_quantile(buckets, 0.99) == 1.0
    assert find_quantile([], 0.5) == find_quantile([(0.1, 0.0), (float("inf"), 0.0)], 0.5) == 0.0
