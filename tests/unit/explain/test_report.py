"""The answer as text."""

from __future__ import annotations

from vk_provider.explain.document import Explanation
from vk_provider.explain.report import MAX_ROWS, render


def make(**more: object) -> Explanation:
    explanation: Explanation = {
        "source": {
            "namespace": "shop",
            "name": "client",
            "node": "nodeless",
            "phase": "Running",
            "address": "10.1.0.1",
            "hostNetwork": False,
            "instance": "i-1",
            "tables": [
                {"name": "services", "newest": "::2", "inForce": "::2", "behindSeconds": 0.0, "heldSeconds": 7300.0},
                {"name": "policy", "newest": "::2", "inForce": "::1", "behindSeconds": 3.0, "heldSeconds": 9.0},
            ],
            "agent": "",
        },
        "target": {
            "written": "web",
            "kind": "Service",
            "name": "shop/web",
            "address": "10.96.0.2",
            "port": 80,
            "protocol": "TCP",
            "text": "ClusterIP, port http 80/TCP -> 8080",
        },
        "endpoints": [
            {
                "address": "10.1.0.2",
                "port": 8080,
                "pod": "shop/web-0",
                "node": "nodeless",
                "used": True,
                "why": "ready",
            },
            {"address": "10.1.0.13", "port": 8080, "pod": "", "node": "", "used": False, "why": "not ready"},
        ],
        "policies": [
            {
                "direction": "egress",
                "pod": "shop/client",
                "endpoints": ["10.1.0.2:8080"],
                "isolatedBy": ["shop/out"],
                "allowed": True,
                "rule": "shop/out egress rule 1",
                "text": "to pods app=web in shop; all ports",
                "drops": 1,
            },
            {
                "direction": "ingress",
                "pod": "shop/web-0",
                "endpoints": ["10.1.0.2:8080"],
                "isolatedBy": ["shop/in"],
                "allowed": False,
                "rule": "",
                "text": "",
                "drops": None,
            },
        ],
        "seen": {"connections": 2, "answered": 1, "byEndpoint": {"10.1.0.2:8080": 2}},
        "notes": ["something"],
        "verdict": {"outcome": "dropped", "connects": False, "text": "by them", "next": "do something"},
    }
    return {**explanation, **more}


def test_everything_that_decides_is_on_a_line_of_its_own() -> None:
    assert (
        render(make())
        == """\
POD      shop/client 10.1.0.1 (Running) on Node nodeless, instance i-1
         table of Services: in force for 2 h, up to date
         table of policies: an earlier one in force, out of date for 3 s
TARGET   Service shop/web, 10.96.0.2:80 TCP, ClusterIP, port http 80/TCP -> 8080
ENDPOINT 1 of 2 endpoints used from here
         +  10.1.0.2:8080   shop/web-0  nodeless  ready
         -  10.1.0.13:8080  no pod      no Node   not ready
POLICY   +  egress of shop/client to 10.1.0.2:8080: shop/out egress rule 1 (to pods app=web in shop; all ports)
            its kernel has dropped 1 packet of its egress
         -  ingress of shop/web-0: no rule of shop/in allows it
SEEN     2 connections tracked by the kernel now, 1 answered: 2 by 10.1.0.2:8080
NOTE     something

=> dropped: by them
   next: do something
"""
    )


def test_what_is_not_known_takes_no_line() -> None:
    explanation = make(endpoints=[], policies=[], notes=[])
    del explanation["seen"]
    explanation["verdict"] = {"outcome": "connects", "connects": True, "text": "connects to it", "next": ""}
    assert [line[:8].strip() for line in render(explanation).splitlines()] == ["POD", "", "", "TARGET", "", "=> conne"]


def test_no_name_moves_the_cursor_or_makes_a_line() -> None:
    explanation = make()
    explanation["source"]["name"] = "x\n\x1b[2J\u202e"
    explanation["target"]["text"] = "a\rb"
    explanation["notes"] = ["\x1b]0;title\x07", "y" * 100_000]
    explanation["verdict"]["text"] = "=> connects\n"
    explanation["verdict"]["next"] = "\u2028"
    text = render(explanation)
    assert all(line.isprintable() for line in text.split("\n")) and len(text) < 5_000
    assert text.count("\n") == render(make()).count("\n") + 1


def test_a_verdict_that_is_not_known_says_so() -> None:
    explanation = make()
    explanation["verdict"] = {"outcome": "unknown", "connects": False, "text": "not compiled yet", "next": ""}
    assert render(explanation).endswith("\n=> unknown: not compiled yet\n")


def test_long_lists_are_cut() -> None:
    row = make()["endpoints"][0]
    text = render(make(endpoints=[row] * (MAX_ROWS + 5)))
    assert text.count("shop/web-0  nodeless") == MAX_ROWS and "and 5 more" in text
