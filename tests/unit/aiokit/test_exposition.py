"""Prometheus' text format, read again by Prometheus' own client."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from vk_provider.aiokit.exposition import format_head, format_labels, format_value


def test_a_family_is_read_as_it_was_meant() -> None:
    labels = {"verb": "create", "result": 'bad "x"\\\n'}
    text = f"{format_head('calls_total', 'counter', 'Calls')}calls_total{format_labels(labels)} {format_value(2.5)}\n"
    (family,) = text_string_to_metric_families(text)
    assert (family.type, family.documentation) == ("counter", "Calls")
    assert [(sample.name, sample.labels, sample.value) for sample in family.samples] == [("calls_total", labels, 2.5)]


def test_a_sample_without_labels_has_no_braces() -> None:
    assert format_labels({}) == ""


def test_values_keep_their_digits() -> None:
    assert [format_value(value) for value in (1, 1.0, 0.1, 12345678901234567, float("inf"), float("nan"))] == [
        "1",
        "1",
        "0.1",
        "12345678901234567",
        "+Inf",
        "NaN",
    ]
