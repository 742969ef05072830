import json

import boto3
from sagemaker.core.resources import Endpoint

endpoint = Endpoint.get(endpoint_name="llama2-7b-throughput")
body = {"inputs": "What is deep learning?", "parameters": {"max_new_tokens": 16}}


def whole() -> str:
    output = endpoint.invoke(body=json.dumps(body), content_type="application/json")
    return json.load(output.body)[0]["generated_text"]


def stream() -> str:
    request = json.dumps({**body, "stream": True})
    output = endpoint.invoke_with_response_stream(body=request, content_type="application/json")
    return "".join(part["PayloadPart"]["Bytes"].decode() for part in output.body)


def stream_by_boto3() -> str:
    response = boto3.client("sagemaker-runtime").invoke_endpoint_with_response_stream(
        EndpointName=endpoint.endpoint_name,
        Body=json.dumps({**body, "stream": True}),
        ContentType="application/json",
    )
    events = b"".join(part["PayloadPart"]["Bytes"] for part in response["Body"]).splitlines()
    return "".join(json.loads(event[5:])["token"]["text"] for event in events if event)


def refused() -> str:
    try:
        endpoint.invoke(
            body=json.dumps({"inputs": "Hi", "parameters": {"top_p": 2}}), content_type="application/json"
        )
    except Exception as error:
        return str(error)
    return ""
