import json

from botocore.config import Config
from langchain_aws.llms import SagemakerEndpoint
from langchain_aws.llms.sagemaker_endpoint import LLMContentHandler


class Handler(LLMContentHandler):
    content_type = accepts = "application/json"

    def transform_input(self, prompt: str, model_kwargs: dict) -> bytes:
        stream = model_kwargs.pop("stream", False)
        return json.dumps({"inputs": prompt, "parameters": model_kwargs, "stream": stream}).encode()

    def transform_output(self, output) -> str:
        if isinstance(output, bytes):  # a line of a stream
            return json.loads(output.removeprefix(b"data:"))["token"]["text"] if output.strip() else ""
        return json.load(output)[0]["generated_text"]


llm = SagemakerEndpoint(
    endpoint_name="llama2-7b-throughput",
    content_handler=Handler(),
    model_kwargs={"max_new_tokens": 16},
    config=Config(read_timeout=70, retries={"total_max_attempts": 1}),
)


def whole() -> str:
    return llm.invoke("What is deep learning?")


def stream() -> str:
    return "".join(llm.stream("What is deep learning?", stream=True))


async def awaited() -> str:
    return await llm.ainvoke("What is deep learning?")


async def awaited_stream() -> str:
    return "".join([text async for text in llm.astream("What is deep learning?", stream=True)])


def refused() -> str:
    try:
        llm.invoke("Hi", top_p=2)
    except Exception as error:
        return str(error)
    return ""
