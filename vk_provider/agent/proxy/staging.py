"""A whole table in pieces, for a kernel that does not take it in one transaction. Pure.

A transaction is one netlink message, which the send buffer of nft's socket must hold. nft enlarges it by
SO_SNDBUFFORCE, for which the kernel wants CAP_NET_ADMIN of the machine itself: in a user namespace a transaction has
208 KiB at most (net.core.wmem_default), about 1,100 Services.

So the table is made under another name, piece by piece, where no packet meets it: without base chains. The last
transaction adds these and deletes the earlier table, so packets meet the one or the other, never none and never a part.
In this way the kernel can also be given packed elements, which are no commands of nft.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

PIECE_CHARACTERS = 32 << 10
"""Of elements in one transaction; as netlink they take up to four times as much."""
_TOO_LARGE = "Message too long"
_ELEMENTS = re.compile(r"(add element inet \S+ (\S+)) \{ (.*) \}")
_BASE_CHAIN = re.compile(r"add chain inet \S+ (\S+) \{ type .* \}")
_OF_CHAIN = re.compile(r"(?:add|flush) (?:chain|rule) inet \S+ (\S+)")
_REVISION = "revision"


@dataclass(frozen=True, slots=True)
class Stages:
    """Each text is a transaction.

    skeleton: the table with all sets, maps and chains but the base chains
    pieces:   the elements
    hooks:    the base chains with their rules, and the revision: from then on the table is in force
    """

    skeleton: str
    pieces: tuple[str, ...]
    hooks: str


def is_too_large(said: str) -> bool:
    """Whether nft says (in the locale C) that the kernel does not take a transaction for its size."""
    return _TOO_LARGE in said


def rename_table(text: str, name: str, other: str) -> str:
    """The commands about the table `name`, for the table `other`."""
    return re.sub(rf"\binet {re.escape(name)}(?=\s)", f"inet {other}", text) if other != name else text


def split_whole(text: str, piece_characters: int = PIECE_CHARACTERS) -> Stages:
    """text: one command a line, as the compilers of tables write them; what makes the table from nothing."""
    lines = text.splitlines()
    base_chains = {found[1] for line in lines if (found := _BASE_CHAIN.fullmatch(line))}
    skeleton: list[str] = []
    pieces: list[str] = []
    hooks: list[str] = []
    for line in lines:
        elements = _ELEMENTS.fullmatch(line)
        chain = _OF_CHAIN.match(line)
        if elements is not None and elements[2] != _REVISION:
            for piece in _split_elements(elements[1], elements[3], piece_characters):
                if pieces and len(pieces[-1]) + len(piece) < piece_characters:
                    pieces[-1] += f"{piece}\n"
                else:
                    pieces.append(f"{piece}\n")
        elif elements is not None or (chain is not None and chain[1] in base_chains):
            hooks.append(line)
        else:
            skeleton.append(line)
    return Stages(_join(skeleton), tuple(pieces), _join(hooks))


def _split_elements(head: str, elements: str, limit: int) -> Iterator[str]:
    piece: list[str] = []
    length = 0
    for element in elements.split(", "):
        piece.append(element)
        length += len(element) + len(", ")
        if length >= limit:
            yield f"{head} {{ {', '.join(piece)} }}"
            piece, length = [], 0
    if piece:
        yield f"{head} {{ {', '.join(piece)} }}"


def _join(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
