"""What an hour of an instance costs: dated figures, refreshed from the AWS Price List API."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit import aws, catalog, paths
from inf2kit.errors import DeploymentError

#: The API is in a few regions only; it knows the prices of all.
_API_REGION = "us-east-1"
_SHIPPED = Path(__file__).with_name("prices.toml")


@dataclass(frozen=True)
class Prices:
    """Dollars an hour, on demand.

    Attributes:
        date: Of the figures.
        source: Of the figures.
        per_hour: By region, then by instance type.
    """

    date: dt.date
    source: str
    per_hour: Mapping[str, Mapping[str, float]]

    def of(self, instance_type: str, region: str | None = None) -> tuple[float, str] | None:
        """Dollars an hour and the region they are of: the one asked for, or the first that has a price.

        None where there is no price of that instance at all.
        """
        for name in filter(None, (region, *self.per_hour)):
            if instance_type in self.per_hour.get(name, {}):
                return self.per_hour[name][instance_type], name
        return None


def shipped() -> Prices:
    """The prices that come with inf2kit."""
    return _read(_SHIPPED)


def current() -> Prices:
    """The user's own refreshed prices, or those that ship with inf2kit.

    Raises:
        DeploymentError: the user's file cannot be read.
    """
    path = paths.prices()
    try:
        return _read(path if path.exists() else _SHIPPED)
    except (OSError, ValueError, KeyError) as error:
        raise DeploymentError(f"{path} cannot be read ({error}); delete it, or refresh it again") from None


def refresh(regions: Sequence[str] = ()) -> Prices:
    """Ask for the hosting prices of every inf2 instance, and keep them.

    Args:
        regions: Such as ``eu-central-1``; boto3's own region by default.

    Raises:
        DeploymentError: AWS cannot be asked, or knows no price.
    """
    with aws.translate_errors(DeploymentError, "asking the AWS Price List API"):
        api = aws.client("pricing", _API_REGION)
        wanted = list(regions) or [aws.default_region()]
        names = [name for name in catalog.instances() if name.startswith("ml.")]
        found = {
            region: {name: price for name in names if (price := _price(api, region, name)) is not None}
            for region in wanted
        }
    for region, per_hour in found.items():
        if not per_hour:
            raise DeploymentError(
                f"AWS has no hosting price of an inf2 instance in {region}; is it a region that offers them?"
            )
    prices = Prices(dt.datetime.now(dt.timezone.utc).date(), "AWS Price List API", found)
    path = paths.prices()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_toml(prices), encoding="utf-8")
    return prices


def _read(file: Path) -> Prices:
    values = catalog.read(file)
    date, source = values.pop("date"), values.pop("source")
    return Prices(date, source, values)


def _price(api: Any, region: str, instance_type: str) -> float | None:
    match = {"regionCode": region, "instanceName": instance_type}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in match.items()]
    pages = api.get_paginator("get_products").paginate(ServiceCode="AmazonSageMaker", Filters=filters)
    for page in pages:
        for text in page["PriceList"]:
            product = json.loads(text)
            attributes = product["product"]["attributes"]
            # The same instance is sold for notebooks, training and batch transform at other prices.
            if "Hosting" in (attributes.get("component"), attributes.get("platoinstancetype")):
                return _per_hour(product)
    return None


def _per_hour(product: dict[str, Any]) -> float | None:
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            if dimension["unit"] == "Hrs":
                return float(dimension["pricePerUnit"]["USD"])
    return None


def _toml(prices: Prices) -> str:
    lines = [f"date = {prices.date.isoformat()}", f'source = "{prices.source}"']
    for region, instances in prices.per_hour.items():
        lines += ["", f"[{region}]", *(f'"{name}" = {price}' for name, price in instances.items())]
    return "\n".join(lines) + "\n"
