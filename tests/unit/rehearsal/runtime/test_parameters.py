"""The parameters of calls: checked against botocore's model, and refused where nothing here has them."""

from __future__ import annotations

import pytest

from inf2kit.rehearsal.runtime.errors import RuntimeAPIError, check_parameters
from inf2kit.rehearsal.validation import find_header_faults

WHOLE, STREAM = "InvokeEndpoint", "InvokeEndpointWithResponseStream"


def check(operation: str, name: str, value: str) -> str:
    """The refusal of a call with one header; empty if it passes."""
    header = name if name == "content-type" else f"x-amzn-sagemaker-{name}"
    try:
        check_parameters(operation, "e", {header: value}, "main")
    except RuntimeAPIError as error:
        assert (error.status, error.kind) == (400, "ValidationError")
        return str(error)
    return ""


@pytest.mark.parametrize("operation", [WHOLE, STREAM])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target-variant", "main"),
        ("inference-id", "my own id"),
        ("prefix-aware-id", "a"),
        ("custom-attributes", "a=1, b=2"),
        ("custom-attributes", 1024 * "x"),
        ("content-type", "application/json; charset=utf-8"),
        ("unknown-header", "x"),
    ],
)
def test_these_pass(operation: str, name: str, value: str) -> None:
    assert check(operation, name, value) == ""


@pytest.mark.parametrize("operation", [WHOLE, STREAM])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("target-variant", "other", "Variant other not found in endpoint e."),
        ("target-variant", "no_variant", "Value 'no_variant' at 'targetVariant' failed to satisfy"),
        ("target-container-hostname", "other", "Endpoint e has one container only"),
        ("inference-component", "other", "Inference Component Name header is not allowed"),
        ("session-id", "a1", "Endpoint e has no stateful model"),
        ("inference-id", 65 * "x", "Member must have length less than or equal to 64"),
        ("inference-id", " x", "Member must satisfy regular expression"),
        ("prefix-aware-id", 65 * "x", "Member must have length less than or equal to 64"),
        ("content-type", 1025 * "x", "'contentType' failed"),
        ("custom-attributes", 1025 * "x", "Member must have length less than or equal to 1024"),
        ("custom-attributes", "gr\xfc\xdfe", "Value at 'customAttributes' failed to satisfy"),
    ],
)
def test_these_are_refused(operation: str, name: str, value: str, message: str) -> None:
    refusal = check(operation, name, value)
    assert message in refusal
    assert "\n" not in refusal


def test_a_parameter_is_refused_by_the_operation_that_has_it() -> None:
    """SageMaker drops headers that an operation does not have."""
    for name, value, message in (
        (
            "target-model",
            "m.tar.gz",
            "is not a multi-model endpoint and does not support target model header",
        ),
        ("enable-explanations", "`true`", "has no explainer"),
        ("session-id", "NEW_SESSION", "has no stateful model"),
    ):
        assert message in check(WHOLE, name, value)
    assert check(STREAM, "target-model", "m.tar.gz") == ""
    assert check(STREAM, "enable-explanations", "`true`") == ""
    assert "'sessionId' failed" in check(STREAM, "session-id", "NEW_SESSION")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("inputlocation", "ftp://x/y", "'inputLocation' failed"),
        ("requestttlseconds", "59", "greater than or equal to 60"),
        ("requestttlseconds", "soon", "Value 'soon' at 'requestTTLSeconds' failed"),
        ("invocationtimeoutseconds", "3601", "less than or equal to 3600"),
        ("invocationtimeoutseconds", "1e3", "Member must be an integer"),
        ("s3outputpathextension", "s3://x", "'s3OutputPathExtension' failed"),
        ("filename", "a.b.c", "'filename' failed"),
        ("custom-attributes", "\xe9", "Value at 'customAttributes' failed"),
    ],
)
def test_parameters_of_asynchronous_calls(name: str, value: str, message: str) -> None:
    headers = {f"x-amzn-sagemaker-{name}": value}
    assert message in find_header_faults("sagemaker-runtime", "InvokeEndpointAsync", headers)
