"""The answers of AWS as far as the catalog reads them. What has another shape, or is beyond a limit, is an error of the
call.

Source: the EC2 API reference (InstanceTypeInfo, InstanceTypeOffering, SpotPrice) and the Pricing API's price list.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from vk_provider.errors import CloudError

Name = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9._ -]*\Z")]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Rate = Annotated[float, Meta(ge=0, le=1e9)]
Token = Annotated[str, Meta(max_length=8192)]
AnswerT = TypeVar("AnswerT")
MAX_PRICE = 100_000.0
"""USD an hour; the dearest instance type costs less than a hundredth of it."""


class Answer(Struct, rename="pascal", frozen=True, gc=False):
    """Names as in the API: instance_type is InstanceType."""


class Processor(Answer, frozen=True):
    supported_architectures: list[Name] = []


class VCpus(Struct, frozen=True, gc=False):
    count: Count = msgspec.field(name="DefaultVCpus", default=0)


class Memory(Struct, frozen=True, gc=False):
    mib: Count = msgspec.field(name="SizeInMiB", default=0)


class Gpu(Answer, frozen=True):
    name: Name = ""
    manufacturer: Name = ""
    count: Count = 0
    memory_info: Memory = Memory()


class Gpus(Answer, frozen=True):
    gpus: list[Gpu] = []


class Disks(Struct, frozen=True, gc=False):
    count: Count = msgspec.field(name="Count", default=0)


class Storage(Struct, frozen=True, gc=False):
    total_gb: Count = msgspec.field(name="TotalSizeInGB", default=0)
    nvme: Name = msgspec.field(name="NvmeSupport", default="")
    disks: list[Disks] = msgspec.field(name="Disks", default=[])


class VolumeRates(Struct, frozen=True, gc=False):
    baseline_mb_per_s: Rate = msgspec.field(name="BaselineThroughputInMBps", default=0.0)


class Volumes(Answer, frozen=True):
    ebs_optimized_info: VolumeRates = VolumeRates()
    maximum_ebs_attachments: Count = 0


class Network(Answer, frozen=True):
    maximum_network_interfaces: Count = 0
    ipv4_addresses_per_interface: Count = 0
    ipv6_supported: bool | None = None
    ipv6_addresses_per_interface: Count = 0


class TypeInfo(Struct, frozen=True, gc=False):
    instance_type: Name = msgspec.field(name="InstanceType")
    processor: Processor = msgspec.field(name="ProcessorInfo", default=Processor())
    cpus: VCpus = msgspec.field(name="VCpuInfo", default=VCpus())
    memory: Memory = msgspec.field(name="MemoryInfo", default=Memory())
    gpu_info: Gpus | None = msgspec.field(name="GpuInfo", default=None)
    storage: Storage | None = msgspec.field(name="InstanceStorageInfo", default=None)
    volumes: Volumes = msgspec.field(name="EbsInfo", default=Volumes())
    network: Network = msgspec.field(name="NetworkInfo", default=Network())
    usage_classes: list[Name] = msgspec.field(name="SupportedUsageClasses", default=[])
    virtualization: list[Name] = msgspec.field(name="SupportedVirtualizationTypes", default=[])
    burstable: bool = msgspec.field(name="BurstablePerformanceSupported", default=False)
    is_current: bool = msgspec.field(name="CurrentGeneration", default=False)
    is_metal: bool = msgspec.field(name="BareMetal", default=False)


class TypeInfos(Answer, frozen=True):
    instance_types: list[TypeInfo] = []
    next_token: Token = ""


class TypeOffering(Answer, frozen=True):
    instance_type: Name
    location: Name


class TypeOfferings(Answer, frozen=True):
    instance_type_offerings: list[TypeOffering] = []
    next_token: Token = ""


class SpotPrice(Answer, frozen=True):
    instance_type: Name
    availability_zone: Name
    spot_price: Annotated[str, Meta(max_length=32, pattern=r"^[0-9]{1,9}(\.[0-9]{1,12})?\Z")]
    timestamp: datetime


class SpotPrices(Answer, frozen=True):
    spot_price_history: list[SpotPrice] = []
    next_token: Token = ""


class Products(Answer, frozen=True):
    price_list: list[Annotated[str, Meta(max_length=200_000)]] = []
    next_token: Token = ""


class ProductAttributes(Struct, frozen=True, rename="camel", gc=False):
    instance_type: Name = ""


class Product(Struct, frozen=True, gc=False):
    attributes: ProductAttributes = ProductAttributes()


class Dimension(Struct, frozen=True, gc=False):
    unit: str = ""
    price_per_unit: dict[str, str] = msgspec.field(name="pricePerUnit", default={})


class Term(Struct, frozen=True, gc=False):
    dimensions: dict[str, Dimension] = msgspec.field(name="priceDimensions", default={})


class Terms(Struct, frozen=True, gc=False):
    on_demand: dict[str, Term] = msgspec.field(name="OnDemand", default={})


class PriceDocument(Struct, frozen=True, gc=False):
    """One entry of a price list: a JSON document within the answer's JSON."""

    product: Product = Product()
    terms: Terms = Terms()


def read_answer(raw: Any, kind: type[AnswerT]) -> AnswerT:
    """Raises CloudError for what has another shape."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise CloudError(f"an answer of AWS cannot be used: {error}") from None


def read_product(text: str) -> tuple[str, float] | None:
    """(instance type, USD an hour); None for a document that says no such thing."""
    try:
        document = msgspec.json.decode(text, type=PriceDocument)
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # ValidationError is one, too
        return None
    instance_type = document.product.attributes.instance_type
    for term in document.terms.on_demand.values():
        for dimension in term.dimensions.values():
            price = _number(dimension.price_per_unit.get("USD", ""))
            if instance_type and dimension.unit.lower() == "hrs" and 0 < price <= MAX_PRICE:
                return instance_type, price
    return None


def _number(text: str) -> float:
    return float(text) if len(text) < 32 and text.replace(".", "", 1).isdecimal() and text.isascii() else 0.0
