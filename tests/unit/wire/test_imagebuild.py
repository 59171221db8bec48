"""The order and the answer of a builder of prepared image stores."""

from __future__ import annotations

import pytest

from vk_provider.wire.imagebuild import BuildAnswer, BuildOrder, OrderedImage, RegistryHost, find_answer, find_uuid

NONCE = "0123456789abcdef"
ORDER = BuildOrder(
    nonce=NONCE,
    images=[OrderedImage("registry.example/app:1", "sha256:" + "a" * 64)],
    registries={"registry.example": RegistryHost("10.0.0.1:5000", True)},
    max_bytes=1 << 30,
    limit_s=600,
)


def test_an_order_is_read_as_it_was_written() -> None:
    text = ORDER.to_user_data()
    assert BuildOrder.from_user_data(text) == ORDER
    assert '"kind":"ImageBuild"' in text, "what image-store.sh looks for"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"kind": "BootData"}',
        ORDER.to_user_data().replace(NONCE, "../../etc"),
        ORDER.to_user_data().replace("sha256:", "md5:"),
        ORDER.to_user_data().replace('"limitS":600', '"limitS":0'),
    ],
)
def test_anything_else_is_no_order(text: str) -> None:
    with pytest.raises(ValueError, match="no order"):
        BuildOrder.from_user_data(text)


def test_the_answer_is_found_among_what_a_console_says() -> None:
    done, failed = BuildAnswer(5), BuildAnswer(0, "full", "no space\nleft \x1b[31m on device")
    other = BuildAnswer(7).to_line("f" * 16)
    console = f"boot\r\n{other}\n[  1.2] x {done.to_line(NONCE)}\r\n{done.to_line(NONCE)[:30]}\n{other}\n"
    assert find_answer(console, NONCE) == done
    said = find_answer(failed.to_line(NONCE), NONCE)
    assert said == BuildAnswer(0, "full", "no space left [31m on device")


@pytest.mark.parametrize(
    "console",
    [
        "",
        f"vk-image-store {NONCE} ",
        f"vk-image-store {NONCE} {{}}x",
        f'vk-image-store {NONCE} {{"sizeBytes": -1}}',
        f'vk-image-store {NONCE} {{"cause": "other"}}',
        f'vk-image-store {NONCE} {{"sizeBytes": 1, "message": "{"x" * 3000}"}}',
    ],
)
def test_half_a_line_is_none(console: str) -> None:
    assert find_answer(console, NONCE) is None


def test_each_build_has_a_file_system_of_its_own() -> None:
    assert find_uuid(NONCE) == find_uuid(NONCE) != find_uuid("f" * 16)
