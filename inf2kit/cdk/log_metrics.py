"""Metrics from the container's log, for what SageMaker does not measure: restarts and admitted texts.

A container without a network cannot publish metrics. Its log does reach CloudWatch, where metric filters
count the lines below. The engine's supervisor and gateway print them. No other module of the constructs
knows the wording of these lines.
"""

from __future__ import annotations

from aws_cdk import aws_logs as logs
from constructs import Construct

#: The supervisor's lines, by the name of the metric that counts them.
EVENTS = {
    "EngineEnded": "inf2kit supervisor: the engine ended",
    "EngineStuck": "inf2kit supervisor: the engine is stuck",
    "DeviceAwaited": "inf2kit supervisor: waiting for the device",
    "LoadFailed": "inf2kit supervisor: cannot load the model",
}
#: The gateway's line, a JSON object such as ``{"inf2kit": "load", "texts_inside": 7, ...}``.
_LOAD_LINE = '{ $.inf2kit = "load" }'
NAMESPACE = "inf2kit"
#: Each sample is the number of texts that run or wait in one instance.
TEXTS_INSIDE = "TextsInside"
#: Each sample is the number of engines of one instance that do not serve; only of instances with several.
ENGINES_MISSING = "EnginesMissing"


def metric_name(metric: str, endpoint_name: str) -> str:
    """The name of a metric of one endpoint.

    The endpoint is part of the name because a filter takes dimensions from the line only, and no line has the
    endpoint's name.
    """
    return f"{metric}-{endpoint_name}"


class LogMetrics(Construct):
    """The metric filters on an endpoint's log group."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        endpoint_name: str,
        log_group: logs.CfnLogGroup,
        engines: int = 1,
    ) -> None:
        super().__init__(scope, construct_id)
        patterns = {metric: (f'"{line}"', "1") for metric, line in EVENTS.items()}
        patterns[TEXTS_INSIDE] = (_LOAD_LINE, "$.texts_inside")
        if engines > 1:
            patterns[ENGINES_MISSING] = (_LOAD_LINE, "$.engines_missing")
        for metric, (pattern, value) in patterns.items():
            logs.CfnMetricFilter(
                self,
                metric,
                log_group_name=log_group.ref,
                filter_pattern=pattern,
                metric_transformations=[
                    logs.CfnMetricFilter.MetricTransformationProperty(
                        metric_namespace=NAMESPACE,
                        metric_name=metric_name(metric, endpoint_name),
                        metric_value=value,
                    )
                ],
            )
