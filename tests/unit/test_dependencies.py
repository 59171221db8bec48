"""The lower bounds that pyproject.toml declares are those that the tests run with."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_the_sdk_of_aws_is_tested_at_its_lower_bound() -> None:
    """It holds its aiobotocore, botocore and boto3 at one version each: with it the whole chain is that of the bound.
    Once a newer one is installed: raise the bound in pyproject.toml, or install with the bound as a constraint."""
    (declared,) = [each for each in PROJECT["optional-dependencies"]["aws"] if each.startswith("aioboto3")]
    bound = re.fullmatch(r"aioboto3>=([\d.]+)", declared)
    assert bound is not None, f"{declared}: a lower bound and nothing else"
    installed, least = version("aioboto3").split("."), bound[1].split(".")
    assert [*least, *["0"] * (len(installed) - len(least))] == installed, (
        f"aioboto3 {'.'.join(installed)} is installed, and {declared} is declared: the bound is not what is tested"
    )
