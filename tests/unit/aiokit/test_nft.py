"""What nft says."""

from __future__ import annotations

from vk_provider.aiokit.nft import parse_revision


def test_the_revision_is_read_from_what_nft_lists() -> None:
    listed = "table inet vk-services {\n\tset revision {\n\t\ttype ipv6_addr\n\t\telements = { 1::2 }\n\t}\n}\n"
    assert parse_revision(listed) == "1::2"
    assert parse_revision(listed.replace("\t\telements = { 1::2 }\n", "")) == ""
