import json

import boto3
from botocore.config import Config

# SageMaker answers within 60 s. Without retries: each is a second generation.
client = boto3.client("sagemaker-runtime", config=Config(read_timeout=70, retries={"total_max_attempts": 1}))
endpoint = {"EndpointName": "llama2-7b-throughput", "ContentType": "application/json"}


def whole() -> str:
    body = {"inputs": "What is deep learning?", "parameters": {"max_new_tokens": 16}}
    response = client.invoke_endpoint(**endpoint, Body=json.dumps(body))
    return json.load(response["Body"])[0]["generated_text"]


def stream() -> str:
    body = {"inputs": "What is deep learning?", "parameters": {"max_new_tokens": 16}, "stream": True}
    response = client.invoke_endpoint_with_response_stream(**endpoint, Body=json.dumps(body))
    text, rest = "", b""
    for part in response["Body"]:
        # A part may end in the middle of a line.
        *lines, rest = (rest + part["PayloadPart"]["Bytes"]).split(b"\n")
        for line in lines:
            if line:
                text += json.loads(line.removeprefix(b"data:"))["token"]["text"]
    return text


def chat() -> str:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 16}
    response = client.invoke_endpoint(**endpoint, Body=json.dumps(body))
    return json.load(response["Body"])["choices"][0]["message"]["content"]


def refused() -> str:
    body = {"inputs": "Hi", "parameters": {"top_p": 2}}
    try:
        client.invoke_endpoint(**endpoint, Body=json.dumps(body))
    except client.exceptions.ModelError as error:
        return error.response["OriginalMessage"]
    return ""
