"""What the catalog asks of AWS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class CatalogClient(Protocol):
    """The calls of EC2 and of the Pricing API by their names, parameters and answers; each is one page. They raise
    CloudError. The Pricing API is in few regions (us-east-1, eu-central-1, ap-south-1) and knows the prices of all."""

    async def describe_instance_types(self, **parameters: Any) -> Mapping[str, Any]: ...

    async def describe_instance_type_offerings(self, **parameters: Any) -> Mapping[str, Any]: ...

    async def describe_spot_price_history(self, **parameters: Any) -> Mapping[str, Any]: ...

    async def get_products(self, **parameters: Any) -> Mapping[str, Any]: ...
