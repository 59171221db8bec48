"""Known faults: each still fits the package, changes what runs, and has recorded cases that find it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.differential.faults import FAULTS, PACKAGE, Edit, Fault, copy_with

RECORDED = Path(__file__).parents[2] / "differential" / "recorded"
NUMBERS = ("01", "02", "04", "05", "06", "08", "09", "10", "12", "13", "14", "15", "16", "18", "19", "21", "22")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fits_the_package_and_can_still_be_run(tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    copy_with(fault, tmp_path)
    for path in {edit.path for edit in fault.edits}:
        text = (tmp_path / "vk_provider" / path).read_text()
        assert text != (PACKAGE / path).read_text()
        compile(text, path, "exec")


def test_no_fault_is_a_slip(tmp_path: Path) -> None:
    """A name that is not there would end the provider, and nothing would be found."""
    for name, fault in FAULTS.items():
        copy_with(fault, tmp_path / name)
        for path in (tmp_path / name / "vk_provider").rglob("*.py"):
            if str(path.relative_to(tmp_path / name / "vk_provider")) not in {edit.path for edit in fault.edits}:
                path.unlink()
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_recorded_cases_that_find_it(name: str) -> None:
    assert FAULTS[name].found_by
    for case in FAULTS[name].found_by:
        assert (RECORDED / f"{case}.json").exists() and (RECORDED / f"{case}.yaml").exists()


def test_every_finding_of_the_first_run_that_a_recorded_case_shows_has_a_fault() -> None:
    numbers = {number for fault in FAULTS.values() for number in fault.number.split(", ")}
    assert set(NUMBERS) <= numbers


def test_a_fault_that_does_not_fit_any_more_is_refused(tmp_path: Path) -> None:
    gone = Fault("0", (), (Edit("errors.py", "no such text", "x"),))
    with pytest.raises(ValueError, match="errors.py has 0 times"):
        copy_with(gone, tmp_path)
