"""What SageMaker is asked for, from the props of an endpoint.

The keys are the names of SageMaker's API in snake case, which the CDK's constructs and the SageMaker SDK both
take. So a stack and a deployment by the SDK cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inf2kit import catalog
from inf2kit.deployment.props import EndpointProps
from inf2kit.names import PRESET_TAG, tag_value

#: The only production variant.
VARIANT = "main"
Values = dict[str, Any]


def model_values(props: EndpointProps, role_arn: str, image_uri: str) -> Values:
    """Return the properties of the Model."""
    values: Values = {
        "execution_role_arn": role_arn,
        "enable_network_isolation": props.network_isolation,
        "primary_container": {
            "image": image_uri,
            "environment": props.variables,
            "model_data_source": {
                "s3_data_source": {
                    "s3_uri": props.package.uri,
                    "s3_data_type": "S3Prefix",
                    "compression_type": "None",
                }
            },
        },
    }
    if props.subnet_ids:
        values["vpc_config"] = {
            "subnets": list(props.subnet_ids),
            "security_group_ids": list(props.security_group_ids),
        }
    return values


def configuration_values(props: EndpointProps, model_name: str) -> Values:
    """Return the properties of the EndpointConfig."""
    variant = {
        "variant_name": VARIANT,
        "model_name": model_name,
        "instance_type": props.instance_type,
        # An endpoint cannot start with 0 instances; scaling removes the last one later.
        "initial_instance_count": max(1, props.min_instances),
        "initial_variant_weight": 1.0,
        "volume_size_in_gb": props.volume_gb,
        "container_startup_health_check_timeout_in_seconds": props.startup_timeout_s,
        "model_data_download_timeout_in_seconds": props.download_timeout_s,
        # The default image of the instance has an old Neuron driver.
        "inference_ami_version": catalog.image().inference_ami_version,
        "routing_config": {"routing_strategy": "LEAST_OUTSTANDING_REQUESTS"},
    }
    values: Values = {"production_variants": [variant]}
    key = {"kms_key_id": props.kms_key_arn} if props.kms_key_arn else {}
    if props.asynchronous:
        values["async_inference_config"] = {
            "client_config": {"max_concurrent_invocations_per_instance": props.concurrent_calls},
            "output_config": {
                "s3_output_path": f"{props.async_output}answers/",
                "s3_failure_path": f"{props.async_output}failures/",
                **key,
            },
        }
    if props.data_capture_percent:
        values["data_capture_config"] = {
            "enable_capture": True,
            "initial_sampling_percentage": props.data_capture_percent,
            "destination_s3_uri": props.data_capture_output,
            **key,
            "capture_options": [{"capture_mode": "Input"}, {"capture_mode": "Output"}],
            # Without this the captured bodies are in base64.
            "capture_content_type_header": {"json_content_types": ["application/json"]},
        }
    return {**values, **key}


def tags(props: EndpointProps) -> Mapping[str, str]:
    """Return the tags of everything that belongs to an endpoint."""
    name = props.package.manifest.model_name
    return {
        PRESET_TAG: props.preset.name,
        **({"inf2kit:model": tag_value(name)} if name else {}),
        "inf2kit:endpoint": props.endpoint_name,
    }
