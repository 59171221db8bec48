"""An EC2 and a Pricing API of a few instance types, answering in pages of one, as AWS's documentation has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vk_provider.errors import CloudError

NOW = datetime(2026, 10, 1, 12, tzinfo=UTC)


def describe_type(name: str, cpus: int, mib: int, **more: Any) -> dict[str, Any]:
    """An InstanceTypeInfo."""
    return {
        "InstanceType": name,
        "CurrentGeneration": True,
        "SupportedUsageClasses": ["on-demand", "spot"],
        "SupportedVirtualizationTypes": ["hvm"],
        "BareMetal": False,
        "BurstablePerformanceSupported": False,
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"], "Manufacturer": "Intel"},
        "VCpuInfo": {"DefaultVCpus": cpus, "DefaultCores": cpus // 2},
        "MemoryInfo": {"SizeInMiB": mib},
        "EbsInfo": {
            "EbsOptimizedInfo": {"BaselineThroughputInMBps": 81.25, "MaximumThroughputInMBps": 1250.0},
            "MaximumEbsAttachments": 27,
        },
        "NetworkInfo": {"MaximumNetworkInterfaces": 3, "Ipv4AddressesPerInterface": 10},
        **more,
    }


GPU = {
    "GpuInfo": {
        "Gpus": [{"Name": "A10G", "Manufacturer": "NVIDIA", "Count": 1, "MemoryInfo": {"SizeInMiB": 22888}}],
        "TotalGpuMemoryInMiB": 22888,
    }
}
NVME = {
    "InstanceStorageInfo": {
        "TotalSizeInGB": 250,
        "Disks": [{"SizeInGB": 125, "Count": 2, "Type": "ssd"}],
        "NvmeSupport": "required",
    }
}
ARM = {"ProcessorInfo": {"SupportedArchitectures": ["arm64"]}}
TYPES = [
    describe_type("m7i.large", 2, 8192),
    describe_type("m7g.large", 2, 8192, **ARM),
    describe_type("t3.small", 2, 2048, BurstablePerformanceSupported=True),
    describe_type("g5.xlarge", 4, 16384, **GPU, **NVME),
    describe_type("g4ad.xlarge", 4, 16384, GpuInfo={"Gpus": [{"Name": "V520", "Manufacturer": "AMD", "Count": 1}]}),
    describe_type("m5.metal", 96, 393216, BareMetal=True, CurrentGeneration=False),
    describe_type("mac1.metal", 12, 32768, ProcessorInfo={"SupportedArchitectures": ["x86_64_mac"]}),
    describe_type("m1.old", 1, 1700, SupportedVirtualizationTypes=["paravirtual"]),
    describe_type("p6.block", 96, 8192, SupportedUsageClasses=["capacity-block"]),
    describe_type("t0.one", 1, 512, NetworkInfo={"MaximumNetworkInterfaces": 1, "Ipv4AddressesPerInterface": 1}),
    describe_type("x99.large", 2, 8192),
]
ZONES = {
    "eu-central-1a": [each["InstanceType"] for each in TYPES],
    "eu-central-1b": ["m7i.large", "t3.small"],
}


def describe_product(name: str, usd: str, unit: str = "Hrs") -> str:
    """An entry of a price list."""
    return json.dumps(
        {
            "product": {"productFamily": "Compute Instance", "attributes": {"instanceType": name, "vcpu": "2"}},
            "serviceCode": "AmazonEC2",
            "terms": {
                "OnDemand": {
                    "X.JRTCKXETXF": {"priceDimensions": {"X.J.6Y": {"unit": unit, "pricePerUnit": {"USD": usd}}}}
                },
                "Reserved": {"Y": {"priceDimensions": {"Y.1": {"unit": "Quantity", "pricePerUnit": {"USD": "500"}}}}},
            },
        }
    )


class PagedAws:
    """`broken`: calls that fail. `calls`: names and parameters of all that were made."""

    def __init__(self) -> None:
        self.types: list[dict[str, Any]] = list(TYPES)
        self.products = [describe_product("m7i.large", "0.1170000000"), describe_product("t3.small", "0.0240000000")]
        self.spot: list[dict[str, Any]] = [
            self.spot_row("m7i.large", "eu-central-1a", "0.047000", 11),
            self.spot_row("m7i.large", "eu-central-1a", "0.045000", 12),
            self.spot_row("m7i.large", "eu-central-1b", "0.000010", 12),
        ]
        self.broken: set[str] = set()
        self.calls: list[tuple[str, dict[str, Any]]] = []

    @staticmethod
    def spot_row(name: str, zone: str, usd: str, hour: int) -> dict[str, Any]:
        return {
            "InstanceType": name,
            "AvailabilityZone": zone,
            "SpotPrice": usd,
            "Timestamp": NOW.replace(hour=hour),
            "ProductDescription": "Linux/UNIX",
        }

    def count(self, name: str) -> int:
        return sum(called == name and "NextToken" not in parameters for called, parameters in self.calls)

    def _page(self, name: str, key: str, rows: Sequence[Any], parameters: dict[str, Any]) -> Mapping[str, Any]:
        self.calls.append((name, parameters))
        if name in self.broken:
            raise CloudError(f"{name}: ServiceUnavailable")
        place = int(parameters.get("NextToken") or 0)
        more = {"NextToken": str(place + 1)} if place + 1 < len(rows) else {"NextToken": ""}
        return {key: list(rows[place : place + 1]), "ResponseMetadata": {"HTTPStatusCode": 200}, **more}

    async def describe_instance_types(self, **parameters: Any) -> Mapping[str, Any]:
        return self._page("describe_instance_types", "InstanceTypes", self.types, parameters)

    async def describe_instance_type_offerings(self, **parameters: Any) -> Mapping[str, Any]:
        assert parameters["LocationType"] == "availability-zone"
        rows = [{"InstanceType": name, "Location": zone} for zone, names in ZONES.items() for name in names]
        return self._page("describe_instance_type_offerings", "InstanceTypeOfferings", rows, parameters)

    async def describe_spot_price_history(self, **parameters: Any) -> Mapping[str, Any]:
        return self._page("describe_spot_price_history", "SpotPriceHistory", self.spot, parameters)

    async def get_products(self, **parameters: Any) -> Mapping[str, Any]:
        filters = {each["Field"]: each["Value"] for each in parameters["Filters"]}
        assert filters["regionCode"] == "eu-central-1"
        rows = self.products if filters["tenancy"] == "Shared" else []
        return self._page("get_products", "PriceList", rows, parameters)
