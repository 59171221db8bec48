"""`vk-provider prices`: what the configured cloud offers, at what price, by whose word, and how old that is. It asks
nobody: it shows what the provider would choose from."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase

from vk_provider.cloud.base import Offering
from vk_provider.cloud.pricelist import PriceList, PriceRow
from vk_provider.errors import BadStartError
from vk_provider.jsontypes import Json
from vk_provider.rfc3339 import format_age
from vk_provider.settings import find_backend, load_settings
from vk_provider.sizing.need import format_cpu, format_memory

_HEADER = ("TYPE", "ZONE", "CAPACITY", "ARCH", "CPU", "MEMORY", "GPU", "USD/HOUR", "AGE", "SOURCE")
_RIGHT = frozenset(("CPU", "MEMORY", "USD/HOUR", "AGE"))
_UNKNOWN = "-"


def main(argv: Sequence[str]) -> int:
    """Raises BadStartError."""
    options = _parse(argv)
    settings = load_settings(options.config)
    backend, own = find_backend(settings.cloud)
    if backend.price_list is None:
        raise BadStartError(f"the {backend.name} cloud does not tell its prices")
    found = backend.price_list(own)
    rows = [row for row in found.rows if _is_asked_for(row.offering, options)]
    shown = PriceList(rows[: options.limit] if options.limit else rows, found.notes)
    if options.output == "json":
        print(json.dumps(to_document(shown), indent=2))
    else:
        sys.stdout.write(render(shown, time.time()))
        if len(shown.rows) < len(rows):
            print(f"({len(rows) - len(shown.rows)} more; --limit 0 shows all)")
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="vk-provider prices",
        description="What the configured cloud offers and at what price, cheapest first; whose word each price is, and "
        "how old. Nobody is asked: it is what the provider has kept, or what it is shipped with.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="TOML configuration")
    parser.add_argument("--type", default="*", metavar="GLOB", help="instance types, such as 'm7*.large'")
    parser.add_argument("--zone", default="*", metavar="GLOB")
    parser.add_argument("--capacity-type", default="*", metavar="GLOB", help="on-demand or spot")
    parser.add_argument("--architecture", default="*", metavar="GLOB", help="amd64 or arm64")
    parser.add_argument("--gpu", action="store_true", help="only those with GPUs")
    parser.add_argument("--limit", type=int, default=50, metavar="ROWS", help="default: 50; 0 for all")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return parser.parse_args(argv)


def _is_asked_for(offering: Offering, options: argparse.Namespace) -> bool:
    return (
        fnmatchcase(offering.instance_type, options.type)
        and fnmatchcase(offering.zone, options.zone)
        and fnmatchcase(offering.capacity_type, options.capacity_type)
        and fnmatchcase(offering.architecture, options.architecture)
        and (offering.gpus > 0 or not options.gpu)
    )


def render(prices: PriceList, now: float) -> str:
    """An aligned table below the notes."""
    table = [_HEADER, *(_list_cells(row, now) for row in prices.rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_HEADER))]
    lines = [*prices.notes, "", *(_align(cells, widths) for cells in table)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _align(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if name in _RIGHT else cell.ljust(width)
        for cell, width, name in zip(cells, widths, _HEADER, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _list_cells(row: PriceRow, now: float) -> tuple[str, ...]:
    offering = row.offering
    burst = offering.traits.burst_price_per_cpu
    return (
        offering.instance_type,
        offering.zone,
        offering.capacity_type,
        offering.architecture or _UNKNOWN,
        format_cpu(offering.cpu_milli) if offering.cpu_milli else _UNKNOWN,
        format_memory(offering.memory_bytes) if offering.memory_bytes else _UNKNOWN,
        f"{offering.gpus} {offering.traits.gpu_name}".strip() if offering.gpus else "",
        f"{offering.price_per_hour:.4f}",
        format_age(now - row.priced_at) if row.priced_at else _UNKNOWN,
        row.source + (f" (+{burst:.2f} a CPU above {format_cpu(offering.traits.baseline_cpu_milli)})" if burst else ""),
    )


def to_document(prices: PriceList) -> Json:
    """{"notes": [...], "offerings": [fields of cloud.base.Offering, with source and priced_at]}."""
    return {
        "notes": list(prices.notes),
        "offerings": [
            {**asdict(row.offering), "source": row.source, "priced_at": row.priced_at} for row in prices.rows
        ],
    }
