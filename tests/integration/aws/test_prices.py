"""Prices from a double of the AWS Price List API, which moto does not simulate."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner

import inf2kit
from inf2kit import paths
from inf2kit.catalog import prices
from inf2kit.catalog.prices import Price
from inf2kit.cli.commands import main
from inf2kit.errors import DeploymentError

HOSTING = {"ml.inf2.xlarge": "0.9900000000", "ml.inf2.48xlarge": "15.5800000000"}


def product(instance: str, usd: str, component: str, unit: str = "Hrs") -> str:
    """One entry, in the form of the API's own documentation."""
    dimension = {"unit": unit, "pricePerUnit": {"USD": usd}}
    return json.dumps(
        {
            "product": {
                "attributes": {"instanceName": instance, "component": component, "regionCode": "eu-west-1"}
            },
            "terms": {"OnDemand": {"x": {"priceDimensions": {"y": dimension}}}},
        }
    )


class PriceListDouble(BaseHTTPRequestHandler):
    """Has two instances in one region, each with a price for hosting and a higher one for training."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
        filters = {match["Field"]: match["Value"] for match in request["Filters"]}
        instance = filters["instanceName"]
        products = []
        if filters["regionCode"] == "eu-west-1" and instance in HOSTING:
            products = [
                product(instance, "99.0", "Training"),
                product(instance, HOSTING[instance], "Hosting"),
            ]
        body = json.dumps({"FormatVersion": "aws_v1", "PriceList": products}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def price_list(monkeypatch: pytest.MonkeyPatch, aws: str) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), PriceListDouble) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()
    paths.prices().unlink(missing_ok=True)


def test_refreshed_prices_are_dated_and_used_from_then_on(price_list: None) -> None:
    result = CliRunner().invoke(main, ["prices", "refresh", "--region", "eu-west-1"])
    assert result.exit_code == 0, result.output
    today = prices.current().date
    assert prices.hourly_price("ml.inf2.48xlarge") == Price(15.58, "eu-west-1", today)
    assert prices.hourly_price("ml.inf2.xlarge", "eu-west-1") == Price(0.99, "eu-west-1", today)
    assert prices.current().source == "AWS Price List API"
    shown = CliRunner().invoke(main, ["prices"]).stdout
    assert "eu-west-1  ml.inf2.48xlarge  15.58" in shown
    assert "AWS Price List API" in shown


def test_a_region_without_the_instances_is_a_sentence(price_list: None) -> None:
    with pytest.raises(DeploymentError, match="no hosting price of an inf2 instance in af-south-1"):
        prices.refresh(["af-south-1"])
    assert not paths.prices().exists()


def test_the_prices_that_ship_say_that_they_are_estimates() -> None:
    shipped = prices.shipped()
    assert shipped.source.startswith("estimate")
    for name in inf2kit.preset_names():
        preset = inf2kit.load_preset(name)
        if preset.compute.backend == "neuron":
            assert shipped.find(preset.compute.instance_type)


def test_a_damaged_file_of_prices_is_a_sentence(aws: str) -> None:
    paths.prices().write_text("date = yesterday", encoding="utf-8")
    try:
        result = CliRunner().invoke(main, ["prices"])
    finally:
        paths.prices().unlink()
    assert result.exit_code == 1
    assert "delete it, or refresh it again" in result.stderr
