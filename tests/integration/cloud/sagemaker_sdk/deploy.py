"""Deploy, call, update and delete by ``inf2kit.sagemaker``; run by a Python that has the SageMaker SDK.

Arguments: the preset, two packages, the role. Prints the requests of each step as JSON.
"""

import json
import sys
from pathlib import Path

import boto3

sys.path.insert(0, str(Path(__file__).parents[4]))

import inf2kit.sagemaker
from inf2kit import DeploymentError, EndpointError

preset, first, second, role = sys.argv[1:]
sagemaker = boto3.client("sagemaker")


def describe(name: str) -> dict[str, object]:
    endpoint = sagemaker.describe_endpoint(EndpointName=name)
    config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    model = sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    tags = sagemaker.list_tags(ResourceArn=endpoint["EndpointArn"])["Tags"]
    return {"endpoint": endpoint, "config": config, "model": model, "tags": tags}


def sentence(**arguments: object) -> str:
    try:
        inf2kit.sagemaker.deploy(preset, first, role=role, **arguments)
    except DeploymentError as error:
        return str(error)
    return "deployed"


refused = [
    sentence(alarm_email="ops@example.com"),
    sentence(volume_gb=1),
    sentence(instances=0),
    sentence(region_name="nowhere-1"),
]
deployment = inf2kit.sagemaker.deploy(preset, first, role=role)
created = describe(deployment.name)
text = deployment.endpoint.generate("Hello", max_new_tokens=4).text
refused.append(sentence())
deployment.update(preset, second, role=role)
updated = describe(deployment.name)
text += (
    inf2kit.sagemaker.Deployment.from_name(deployment.name).endpoint.generate("Hello", max_new_tokens=4).text
)
deployment.delete()
left = [
    *sagemaker.list_endpoints()["Endpoints"],
    *sagemaker.list_endpoint_configs()["EndpointConfigs"],
    *sagemaker.list_models()["Models"],
]
try:
    deployment.delete()
except (DeploymentError, EndpointError) as error:
    refused.append(str(error))
print()
print(
    json.dumps(
        {"created": created, "updated": updated, "text": text, "left": left, "refused": refused}, default=str
    )
)
