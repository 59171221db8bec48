"""Tables that are larger than a transaction of the kernel, with the real nft: in a user namespace, as in an instance of
the local cloud."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.proxy.kept import Compiled, Kept
from tests.integration.proxy.test_keeper import FIRST, SECOND, SERVICE
from tests.integration.proxy.user_namespace import FORMS, SCENARIOS
from tests.service_objects import make_slice
from vk_provider.agent.proxy.staging import split_whole

pytestmark = pytest.mark.real
PROJECT = Path(__file__).parents[3]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_table_larger_than_a_transaction_is(scenario: str, form: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    command = [
        *("unshare", "--user", "--map-root-user", "--net"),
        *(sys.executable, "-m", "tests.integration.proxy.user_namespace", scenario, form, str(tmp_path)),
    ]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_stages_make_the_table_that_the_text_makes(kept: Kept, compiled: Compiled) -> None:
    text = compiled.whole(SERVICE, make_slice("a", FIRST, SECOND))["text"]
    kept.bed.nft(text)
    as_one = kept.listed()
    kept.bed.nft("flush ruleset\n")
    stages = split_whole(text, 40)
    for each in (stages.skeleton, *stages.pieces, stages.hooks):
        kept.bed.nft(each)
    assert sorted(kept.listed().split()) == sorted(as_one.split()) and len(stages.pieces) > 3
