"""The record of a deployed endpoint in Systems Manager: its stack writes it, and callers read it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from inf2kit.errors import EndpointError


@dataclass(frozen=True, kw_only=True)
class PublishedEndpoint:
    """What a stack tells the callers of its endpoint.

    Attributes:
        endpoint_name: The EndpointName.
        preset: The preset's name.
        package: The package's ``s3://BUCKET/PREFIX/DIGEST/``.
        batch_size: Rows of the compiled model, which each engine has.
        sequence_length: Positions of a row.
        engines: Engines of each instance.
        instances: The fewest instances of the endpoint.
        asynchronous: Whether calls go through S3.
        async_input: The ``s3://BUCKET/PREFIX/`` of requests; None for a real-time endpoint.
        async_invocation_timeout_s: The InvocationTimeoutSeconds that callers must pass, as SageMaker's
            default is 900; None for a real-time endpoint.
    """

    endpoint_name: str
    preset: str = ""
    package: str = ""
    batch_size: int = 0
    sequence_length: int = 0
    engines: int = 1
    instances: int = 1
    asynchronous: bool = False
    async_input: str | None = None
    async_invocation_timeout_s: int | None = None

    def to_json(self) -> str:
        """Return the parameter's value, without fields that are None."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, parameter: str, value: str) -> PublishedEndpoint:
        """Parse a parameter's value; fields of other releases are passed over.

        Args:
            parameter: The parameter's name, for the error.
            value: Its value.

        Raises:
            EndpointError: the value is none that a stack of inf2kit writes.
        """
        try:
            values = json.loads(value)
            return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})
        except (ValueError, TypeError):
            raise EndpointError(
                f"the parameter {parameter} does not name an endpoint; deploy its stack again, or call the "
                "endpoint by its own name"
            ) from None
