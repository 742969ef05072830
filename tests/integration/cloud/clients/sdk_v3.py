"""The SageMaker SDK v3 as a user has it; run by its own Python. Prints what it has found as JSON."""

import json
import sys

import boto3
from sagemaker.core.resources import Endpoint

name = sys.argv[1]
endpoint = Endpoint.get(endpoint_name=name)
body = {"inputs": "Hello", "parameters": {"max_new_tokens": 3}}
answer = endpoint.invoke(body=json.dumps(body), content_type="application/json")
streamed = json.dumps({**body, "stream": True})
try:
    stream = endpoint.invoke_with_response_stream(body=streamed, content_type="application/json").body
except AttributeError as error:
    # 2.27.0 cannot take any server's stream: it wants to read the answer's body like a dict. So the client
    # that it brings along reads it.
    assert "EventStream" in str(error), error
    runtime = boto3.client("sagemaker-runtime")
    stream = runtime.invoke_endpoint_with_response_stream(
        EndpointName=name, Body=streamed, ContentType="application/json"
    )["Body"]
events = b"".join(part["PayloadPart"]["Bytes"] for part in stream)
endpoint.refresh()
try:
    endpoint.invoke(body=json.dumps({"inputs": ""}), content_type="application/json")
    refused = ""
except Exception as error:
    refused = str(error)
print(
    json.dumps(
        {
            "status": endpoint.endpoint_status,
            "variants": [variant.current_instance_count for variant in endpoint.production_variants],
            "answer": json.loads(answer.body.read()),
            "events": events.decode().count("data: "),
            "all": [each.endpoint_name for each in Endpoint.get_all()],
            "refused": refused,
        }
    )
)
