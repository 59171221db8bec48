"""What the kernel has said (Linux 6.18, little-endian), read back."""

from __future__ import annotations

import errno
import struct

import pytest

from vk_provider.agent.proxy.ruleset import Announcement, parse_announcement, parse_revision
from vk_provider.aiokit.netlink import (
    pack_attribute,
    pack_message,
    pack_text,
    read_attributes,
    split_messages,
)
from vk_provider.conntrack import Ends, Entry, parse_entry
from vk_provider.serviceproxy.address import Family
from vk_provider.serviceproxy.conntrack import Flow

# conntrack: a TCP connection and two UDP flows of 10.1.64.1 to 10.96.0.10:53, which two endpoints answer
FLOWS4 = bytes.fromhex(
    "f0000000000122000100000001050000020000003400018014000180080001000a014001080002000a60000a1c0002800500010006000000"
    "06000200c350000006000300003500003400028014000180080001000a010001080002000a0140011c0002800500010006000000060002001f"
    "90000006000300c35000000800030000000008080008000000000008000c00f20a288808000b00000000010800070000000063300004802c"
    "000180050001000300000005000200000000000500030000000000060004000a000000060005000a0000001c001880080001000000000008"
    "000200000000000800030000000000"
    "c0000000000122000100000001050000020000003400018014000180080001000a014001080002000a60000a1c0002800500010011000000"
    "06000200c351000006000300003500003400028014000180080001000a018001080002000a0140011c0002800500010011000000060002001f"
    "90000006000300c35100000800030000000008080008000000000008000c00ca52022f08000b000000000108000700000000631c00188008"
    "0001000000000008000200000000000800030000000000"
    "c0000000000122000100000001050000020000003400018014000180080001000a014001080002000a60000a1c0002800500010011000000"
    "06000200c350000006000300003500003400028014000180080001000a010001080002000a0140011c0002800500010011000000060002001f"
    "90000006000300c35000000800030000000008080008000000000008000c007e10c44108000b000000000108000700000000631c00188008"
    "0001000000000008000200000000000800030000000000"
)
# conntrack: one UDP flow of fd00:1::64 to [fd00:96::a]:53
FLOWS6 = bytes.fromhex(
    "f00000000001220001000000140600000a0000004c0001802c00018014000300fd00000100000000000000000000006414000400fd00009600"
    "000000000000000000000a1c000280050001001100000006000200c350000006000300003500004c0002802c00018014000300fd0000010000"
    "0000000000000000000114000400fd0000010000000000000000000000641c0002800500010011000000060002001f90000006000300c35000"
    "000800030000000008080008000000000008000c00810a71dd08000b000000000108000700000000631c001880080001000000000008000200"
    "000000000800030000000000"
)
# nf_tables: the table inet vk-services with the set revision and its element 1:2::3, and the table ip nat; by nft
MADE = bytes.fromhex(
    "40000000000a000001000000160600000100000210000100766b2d73657276696365730008000300000000010c0004000000000000000001"
    "080002000000000080000000090a000402000000160600000100000210000100766b2d7365727669636573000d0002007265766973696f6e"
    "000000000c0010000000000000000001080004000000000808000500000000100a000d000004020000000000040009001700130030786666"
    "666666666666383235303866343000000800140000000001"
    "540000000c0a000400000000160600000100000210000100766b2d7365727669636573000d0002007265766973696f6e0000000020000300"
    "1c00010018000100140001000001000200000000000000000000000338000000000a0000040000001606000002000002080001006e617400"
    "08000300000000000c00040000000000000000020800020000000000"
)
STATUS, ANSWERED = bytes.fromhex("0800030000000008"), bytes.fromhex("080003000000000a")
END = bytes.fromhex("2c0000000f0a000001000000160600000000000208000100000000020800020000000616080003006e667400")


def entries_of(data: bytes) -> list[Entry]:
    return [entry for message in split_messages(data) if (entry := parse_entry(message)) is not None]


def test_a_connection_says_where_it_went_and_who_answers() -> None:
    entries = entries_of(FLOWS4)
    assert [(entry.protocol, entry.flow) for entry in entries] == [
        (6, Flow(Family.IPV4, "10.96.0.10", 53, "10.1.0.1", 8080)),
        (17, Flow(Family.IPV4, "10.96.0.10", 53, "10.1.128.1", 8080)),
        (17, Flow(Family.IPV4, "10.96.0.10", 53, "10.1.0.1", 8080)),
    ]
    assert entries[1].original == Ends("10.1.64.1", 50001, "10.96.0.10", 53)
    (entry,) = entries_of(FLOWS6)
    assert entry.flow == Flow(Family.IPV6, "fd00:96::a", 53, "fd00:1::1", 8080)


def test_a_connection_is_answered_when_the_kernel_has_seen_a_reply() -> None:
    assert not any(entry.is_answered for entry in entries_of(FLOWS4))
    assert all(entry.is_answered for entry in entries_of(FLOWS4.replace(STATUS, ANSWERED)))


def test_a_flow_is_deleted_by_its_own_tuple_and_number() -> None:
    messages = list(split_messages(FLOWS4))[1:]
    keys = [read_attributes(entry.key) for entry in entries_of(FLOWS4)[1:]]
    assert [sorted(key) for key in keys] == [[1, 12]] * 2
    assert [key[1] for key in keys] == [read_attributes(message.body)[1] for message in messages]
    assert keys[0] != keys[1]


def test_a_transaction_names_its_tables_of_family_inet_and_its_process() -> None:
    announced = [parse_announcement(message) for message in split_messages(MADE + END)]
    assert announced == [*[Announcement("vk-services")] * 3, None, Announcement("", 2, "nft")]


def test_the_revision_is_the_element_of_the_set() -> None:
    elements = list(split_messages(MADE))[2]
    assert parse_revision(elements) == "1:2::3"
    assert parse_revision(elements._replace(body=elements.body[:30])) == ""


@pytest.mark.parametrize("length", range(0, len(MADE), 3))
def test_bytes_that_end_early_give_what_is_whole(length: int) -> None:
    whole = list(split_messages(MADE))
    cut = list(split_messages(MADE[:length]))
    assert cut == whole[: len(cut)]
    for message in whole:
        short = message._replace(body=message.body[: length % (len(message.body) + 1)])
        parse_announcement(short)
        parse_revision(short)


def test_an_error_among_the_answers_is_raised_and_an_acknowledgement_is_not() -> None:
    def answer(code: int) -> bytes:
        return struct.pack("=IHHIIi", 20, 2, 0, 1, 0, code)

    assert list(split_messages(answer(0))) == []
    with pytest.raises(FileNotFoundError):
        list(split_messages(answer(-errno.ENOENT)))


def test_a_packed_message_is_read_back() -> None:
    body = pack_text(1, "vk-services") + pack_attribute(3, b"abc", nested=True)
    (message,) = split_messages(pack_message(0xA0D, 0x301, 1, body))
    assert message[:3] == (0xA0D, 0x301, 1)
    assert read_attributes(message.body) == {1: b"vk-services\0", 3: b"abc"}
