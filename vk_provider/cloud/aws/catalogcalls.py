"""The catalog's calls (catalog.client), through the door to AWS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vk_provider.cloud.aws.operations import (
    DESCRIBE_SPOT_PRICES,
    DESCRIBE_TYPE_OFFERINGS,
    DESCRIBE_TYPES,
    GET_PRODUCTS,
    AwsApi,
)


class CatalogCalls:
    """The catalog judges the answers itself: it reads more of them than calls of instances do."""

    def __init__(self, api: AwsApi) -> None:
        self._api = api

    async def describe_instance_types(self, **parameters: Any) -> Mapping[str, Any]:
        return await self._api.call(DESCRIBE_TYPES, parameters)

    async def describe_instance_type_offerings(self, **parameters: Any) -> Mapping[str, Any]:
        return await self._api.call(DESCRIBE_TYPE_OFFERINGS, parameters)

    async def describe_spot_price_history(self, **parameters: Any) -> Mapping[str, Any]:
        return await self._api.call(DESCRIBE_SPOT_PRICES, parameters)

    async def get_products(self, **parameters: Any) -> Mapping[str, Any]:
        return await self._api.call(GET_PRODUCTS, parameters)
