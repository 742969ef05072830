import boto3
import botocore.session
from botocore.config import Config
from llmeter.endpoints import SageMakerEndpoint, SageMakerStreamEndpoint

session = botocore.session.get_session()
session.set_default_client_config(Config(read_timeout=70, retries={"total_max_attempts": 1}))
name = "llama2-7b-throughput"
options = {"endpoint_name": name, "model_id": name, "boto3_session": boto3.Session(botocore_session=session)}
whole_endpoint, stream_endpoint = SageMakerEndpoint(**options), SageMakerStreamEndpoint(**options)


def whole() -> str:
    payload = SageMakerEndpoint.create_payload("What is deep learning?", max_tokens=16)
    response = whole_endpoint.invoke(payload)
    return response.response_text if response.error is None else f"error: {response.error}"


def stream() -> str:
    payload = SageMakerStreamEndpoint.create_payload("What is deep learning?", max_tokens=16)
    response = stream_endpoint.invoke(payload)
    return response.response_text if response.error is None else f"error: {response.error}"


def refused() -> str:
    payload = SageMakerStreamEndpoint.create_payload("Hi", 16, {"top_p": 2})
    return stream_endpoint.invoke(payload).error
