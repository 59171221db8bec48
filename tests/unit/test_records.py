"""Records: none has more fields than a reader can hold, and each field is written where its docstring says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOM = Path(__file__).parents[2] / "vk_provider"
MAX_FIELDS = 20
LARGER = {"cloud/aws/settings.py:AwsCloudSettings", "cloud/simulated/settings.py:SimulatedFaults"}
"""Records with more: each is one table of the user's file, whose keys its fields are."""
HELD = {
    "owned": ("instances/instance.py", "OwnedInstance"),
    "former": ("instances/instance.py", "OwnedInstance"),
    "link": ("instances/instance.py", "Link"),
    "sent": ("instances/instance.py", "Sent"),
    "record": ("pods/record.py", "PodRecord"),
    "reading": ("pods/record.py", "Reading"),
    "leaving": ("pods/record.py", "Leaving"),
    "deletion": ("pods/record.py", "Deletion"),
}
"""What the code calls a variable or an attribute that holds one -> where the class is."""
OF_ALL, OF_ONE = re.compile(r"Written by `(\w+)`"), re.compile(r"written by `(\w+)`")


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def find_fields(kind: ast.ClassDef) -> list[str]:
    targets = [each.target for each in kind.body if isinstance(each, ast.AnnAssign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def is_record(kind: ast.ClassDef) -> bool:
    words = [ast.unparse(each) for each in (*kind.decorator_list, *kind.bases)]
    return any("dataclass" in word or word.endswith("Struct") for word in words)


def test_no_record_has_more_fields_than_a_reader_can_hold() -> None:
    large = {
        f"{path.relative_to(ROOM)}:{kind.name}"
        for path in ROOM.rglob("*.py")
        for kind in ast.walk(parse(path))
        if isinstance(kind, ast.ClassDef) and is_record(kind) and len(find_fields(kind)) > MAX_FIELDS
    }
    assert large == LARGER


def find_writers(name: str) -> dict[str, str]:
    """Field -> the module that the docstring names."""
    file, title = HELD[name]
    (kind,) = (each for each in parse(ROOM / file).body if isinstance(each, ast.ClassDef) and each.name == title)
    text = ast.get_docstring(kind) or ""
    fields = find_fields(kind)
    if (whole := OF_ALL.search(text)) is not None:
        return dict.fromkeys(fields, whole[1])
    starts = [(found.start(), found[1]) for found in re.finditer(r"^(\w+):", text, re.MULTILINE) if found[1] in fields]
    parts = [(name, text[at:end]) for (at, name), (end, _) in zip(starts, [*starts[1:], (len(text), "")], strict=True)]
    found = {name: OF_ONE.search(part) for name, part in parts}
    return {name: writer[1] if writer is not None else "" for name, writer in found.items()}


@cache
def list_writes(path: Path) -> list[tuple[str, str, int]]:
    return list(find_writes(parse(path)))


def find_writes(tree: ast.Module) -> Iterator[tuple[str, str, int]]:
    """(what holds the record, field, line) of each assignment, and of each change of a list."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = [each for target in node.targets for each in getattr(target, "elts", [target])]
        elif isinstance(node, ast.AugAssign):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            targets = [node.func.value]
        for target in targets:
            if isinstance(target, ast.Attribute):
                holder = target.value
                name = holder.id if isinstance(holder, ast.Name) else getattr(holder, "attr", "")
                yield name, target.attr, target.lineno


CHANGES = ("append", "clear", "extend", "pop", "remove", "insert")


@pytest.mark.parametrize("name", HELD)
def test_each_field_has_one_writer(name: str) -> None:
    writers = find_writers(name)
    assert writers and all(writers.values()), f"a field without a writer: {writers}"
    elsewhere = [
        f"{path.relative_to(ROOM)}:{line}: {held}.{field} is {writers[field]}'s"
        for room in ("instances", "pods", "peering", "podidentity", "preparing", "explaining", "kubelet", "routing")
        for path in (ROOM / room).rglob("*.py")
        for held, field, line in list_writes(path)
        if held == name and field in writers and path.stem != writers[field]
    ]
    assert elsewhere == []
