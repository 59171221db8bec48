"""Makes vk_provider/cloud/aws/catalog/prices.json: on-demand prices for when AWS's Pricing API cannot be asked.

Source: the Go module github.com/aws/karpenter-provider-aws (Apache-2.0), whose packages hold what AWS's Pricing API has
said (pkg/providers/pricing/zz_generated.pricing_*.go). It has us-east-1 and the US government's regions; China's are in
another currency and left out. To take the newest version, or a certain one:

    python -m tests.catalog.bundle [VERSION]

Go is needed, and its proxy. The file records version, date and checksum of the module.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

MODULE = "github.com/aws/karpenter-provider-aws"
TARGET = Path(__file__).parents[2] / "vk_provider/cloud/aws/catalog/prices.json"
_FILES = re.compile(r"/pkg/providers/pricing/zz_generated\.pricing_aws(_us_gov)?\.go$")
_DATE = re.compile(r"^// generated at (\S+)", re.MULTILINE)
_REGION = re.compile(r'^\t"([a-z0-9-]+)": \{\n(.*?)^\t\},', re.MULTILINE | re.DOTALL)
_PRICE = re.compile(r'"([a-z0-9-]+)\.([a-z0-9-]+)": ([0-9.]+)')


def fetch_module(version: str) -> dict[str, str]:
    """What `go mod download -json` says of it. It complains of modules for a newer Go, and brings them all the same."""
    environment = os.environ | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    command = ["go", "mod", "download", "-json", f"{MODULE}@{version}"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    found: dict[str, str] = json.loads(answer.stdout)
    if not found.get("Zip"):
        raise SystemExit(f"error: {found.get('Error') or answer.stderr}")
    return found


def parse_prices(source: str) -> dict[str, dict[str, dict[str, float]]]:
    """{region: {family: {size: USD an hour}}} of one generated file."""
    regions: dict[str, dict[str, dict[str, float]]] = {}
    for region, body in _REGION.findall(source):
        families = regions.setdefault(region, {})
        for family, size, price in _PRICE.findall(body):
            if float(price) > 0:
                families.setdefault(family, {})[size] = float(price)
    return regions


def build(sources: Mapping[str, str], version: str, checksum: str) -> dict[str, object]:
    """The document; sources: generated files by name."""
    regions, dates = {}, {}
    for _, source in sorted(sources.items()):
        date = _DATE.search(source)
        assert date is not None, "the form of the generated files has changed"
        for region, prices in parse_prices(source).items():
            regions[region] = prices
            dates[region] = date[1]
    assert "us-east-1" in regions, "the form of the generated files has changed"
    return {
        "source": MODULE,
        "license": "Apache-2.0",
        "version": version,
        "checksum": checksum,
        "dates": dates,
        "prices": regions,
    }


def render(document: Mapping[str, object]) -> str:
    """A line for each family."""
    text = json.dumps(document, indent=1, sort_keys=True)
    return re.sub(r'": \{\s+((?:"[a-z0-9-]+": [0-9.]+,?\s*)+)\}', lambda m: '": {' + " ".join(m[1].split()) + "}", text)


def main() -> None:
    module = fetch_module(sys.argv[1] if len(sys.argv) > 1 else "latest")
    with zipfile.ZipFile(module["Zip"]) as archive:
        names = [name for name in archive.namelist() if _FILES.search(name)]
        sources = {name: archive.read(name).decode() for name in names}
    document = build(sources, module["Version"], module["Sum"])
    TARGET.write_text(render(document) + "\n")
    print(f"{TARGET}: {TARGET.stat().st_size} bytes, of {MODULE}@{module['Version']}")


if __name__ == "__main__":
    main()
