"""Hosting prices of instances: dated figures that ship, or come from the AWS Price List API."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit import aws, catalog, paths, toml
from inf2kit.errors import DeploymentError

#: The API is in a few regions only; each one has the prices of all regions.
API_REGION = "us-east-1"
_SHIPPED = Path(__file__).with_name("prices.toml")


@dataclass(frozen=True)
class Price:
    """The on-demand price of one instance.

    Attributes:
        usd_per_hour: US dollars for an hour.
        region: The region that it applies to.
        date: The day of the figure.
    """

    usd_per_hour: float
    region: str
    date: dt.date


@dataclass(frozen=True)
class PriceList:
    """On-demand prices of one day.

    Attributes:
        date: The day of the figures.
        source: Where they come from.
        usd_per_hour: US dollars for an hour, by region and then by instance type.
    """

    date: dt.date
    source: str
    usd_per_hour: Mapping[str, Mapping[str, float]]

    @property
    def dated(self) -> str:
        """The day of the figures, and whether they are an estimate, in words."""
        return f"{self.date}{' (estimate)' if self.is_estimate else ''}"

    @property
    def is_estimate(self) -> bool:
        """Whether the figures are not AWS's own."""
        return self.source.startswith("estimate")

    def find(self, instance_type: str, region: str | None = None) -> Price | None:
        """Return the price in a region, or in the first region that has one; None if there is none."""
        for name in filter(None, (region, *self.usd_per_hour)):
            if instance_type in self.usd_per_hour.get(name, {}):
                return Price(self.usd_per_hour[name][instance_type], name, self.date)
        return None


def hourly_price(instance_type: str, region: str | None = None) -> Price | None:
    """Return the current price of an instance; without one for the region, that of another region.

    Returns:
        The price, or None if no region has one.

    Raises:
        DeploymentError: the user's file of prices cannot be read.
    """
    return current().find(instance_type, region)


def shipped() -> PriceList:
    """Return the prices that ship with inf2kit."""
    return _read(_SHIPPED)


def current() -> PriceList:
    """Return the prices that the user has refreshed, or those that ship with inf2kit.

    Raises:
        DeploymentError: the user's file cannot be read.
    """
    path = paths.prices()
    try:
        return _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return shipped()
    except (OSError, ValueError, KeyError) as error:
        raise DeploymentError(f"{path} cannot be read ({error}); delete it, or refresh it again") from None


def refresh(regions: Sequence[str] = ()) -> PriceList:
    """Fetch the hosting price of every inf2 instance, and save it as the user's own list.

    Args:
        regions: Such as ``eu-central-1``; boto3's own region by default.

    Raises:
        DeploymentError: AWS cannot be called, or has no price for one of the regions.
    """
    instance_types = [name for name in catalog.instances() if name.startswith("ml.")]
    with aws.translate_errors(DeploymentError, "asking the AWS Price List API"):
        api = aws.client("pricing", API_REGION)
        for region in regions:
            aws.check_region(region)
        by_region = {
            region: fetch(api, region, instance_types) for region in regions or [aws.default_region()]
        }
    for region, by_type in by_region.items():
        if not by_type:
            raise DeploymentError(
                f"AWS has no hosting price of an inf2 instance in {region}; is it a region that offers them?"
            )
    prices = PriceList(dt.datetime.now(dt.timezone.utc).date(), "AWS Price List API", by_region)
    path = paths.prices()
    paths.make_private(path.parent)
    document = toml.dumps({"date": prices.date, "source": prices.source, **prices.usd_per_hour})
    paths.replace_file(path, document.encode())
    return prices


def _read(path: Path) -> PriceList:
    """Read a file of prices.

    Raises:
        ValueError, KeyError: it is not one.
    """
    values = toml.read(path)
    date, source = values.pop("date"), values.pop("source")
    if not isinstance(date, dt.date):
        raise ValueError(f"date is {date!r}")
    for region, by_type in values.items():
        if not isinstance(by_type, dict) or not all(isinstance(usd, int | float) for usd in by_type.values()):
            raise ValueError(f"the prices of {region} are no table of numbers")
    return PriceList(date, str(source), values)


def fetch(api: Any, region: str, instance_types: Sequence[str]) -> dict[str, float]:
    """Fetch the hosting prices of those instance types that a region sells as endpoints.

    Args:
        api: A boto3 client of the Price List API, in ``API_REGION``.
        region: The region.
        instance_types: Such as ``ml.inf2.xlarge``.

    Returns:
        US dollars for an hour, by instance type.

    Raises:
        botocore.exceptions.ClientError: AWS refuses.
    """
    prices = {name: _fetch_price(api, region, name) for name in instance_types}
    return {name: price for name, price in prices.items() if price is not None}


def _fetch_price(api: Any, region: str, instance_type: str) -> float | None:
    match = {"regionCode": region, "instanceName": instance_type}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in match.items()]
    pages = api.get_paginator("get_products").paginate(ServiceCode="AmazonSageMaker", Filters=filters)
    for page in pages:
        for text in page["PriceList"]:
            product = json.loads(text)
            attributes = product["product"]["attributes"]
            # The same instance has other prices for notebooks, training and batch transform.
            if "Hosting" in (attributes.get("component"), attributes.get("platoinstancetype")):
                return _parse_hourly(product)
    return None


def _parse_hourly(product: Mapping[str, Any]) -> float | None:
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            if dimension["unit"] == "Hrs":
                return float(dimension["pricePerUnit"]["USD"])
    return None
