from llmeter.endpoints import SageMakerEndpoint, SageMakerStreamEndpoint

name = "llama2-7b-throughput"
whole_endpoint = SageMakerEndpoint(endpoint_name=name, model_id=name)
stream_endpoint = SageMakerStreamEndpoint(endpoint_name=name, model_id=name)


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
