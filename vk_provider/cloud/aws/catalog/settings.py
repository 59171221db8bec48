"""The settings of the catalog."""

from __future__ import annotations

from dataclasses import dataclass

from vk_provider.settingtypes import PositiveFloat


@dataclass(frozen=True, slots=True)
class CatalogSettings:
    """What EC2 offers and at what price, see `vk-provider prices`.

    directory:    where it is kept between starts, a file for each region; "" for nowhere
    price_api:    whether AWS's Pricing API is asked for on-demand prices; without it, and while it does not answer,
                  those of the last answer count, else the ones that this program is shipped with
    spot_prices:  whether EC2 is asked for spot prices; without them a spot instance counts as much as one on demand
    types_ttl_s:  how long what EC2 says of instance types and zones is believed
    prices_ttl_s: the same of on-demand prices
    spot_ttl_s:   the same of spot prices
    previous_generations: whether types that EC2 does not recommend any more are offered, too; where both fit, a current
                  one is launched
    """

    directory: str = "/var/lib/vk-provider/catalog"
    price_api: bool = True
    spot_prices: bool = True
    types_ttl_s: PositiveFloat = 12 * 3600.0
    prices_ttl_s: PositiveFloat = 12 * 3600.0
    spot_ttl_s: PositiveFloat = 600.0
    previous_generations: bool = True
