"""The calls of the tables, by boto3 against a double that counts words."""

from __future__ import annotations

import pytest

from inf2kit import Endpoint
from inf2kit.bench.tables.callers import EndpointCaller
from inf2kit.bench.tables.protocol import Cell
from tests.helpers.fault_server import fault_server
from tests.helpers.faulty_endpoint import FaultyEndpoint


@pytest.mark.parametrize("engines", [1, 3])
def test_streams_fill_the_rows_of_every_engine(engines: int) -> None:
    """As many as one engine has would leave the rows of three mostly empty, and be too fast."""
    double = FaultyEndpoint()
    with fault_server() as server:
        server.plans["x"] = [double]
        endpoint = Endpoint("x", endpoint_url=server.url)
        results = EndpointCaller(endpoint, engines).call("The sea is", 2, Cell(3, 8), stream=True)
    assert [result.generated_tokens for result in results] == [8, 8]
    assert next(double._numbers) - 1 == 2 * engines
