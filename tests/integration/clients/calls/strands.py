import asyncio

from botocore.config import Config
from strands import Agent
from strands.models.sagemaker import SageMakerAIModel

endpoint = {"endpoint_name": "llama2-7b-throughput", "region_name": "us-east-1"}
no_retries = Config(read_timeout=70, retries={"total_max_attempts": 1})
hi = [{"role": "user", "content": [{"text": "Hi"}]}]


async def _read(model: SageMakerAIModel) -> str:
    events = [event async for event in model.stream(hi)]
    return "".join(
        event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event
    )


def chat() -> str:
    model = SageMakerAIModel(
        endpoint_config=endpoint,
        payload_config={"max_tokens": 16, "stream": False},
        boto_client_config=no_retries,
    )
    return asyncio.run(_read(model))


async def chat_stream() -> str:
    model = SageMakerAIModel(
        endpoint_config=endpoint, payload_config={"max_tokens": 16}, boto_client_config=no_retries
    )
    return await _read(model)


def refused() -> str:
    model = SageMakerAIModel(endpoint_config=endpoint, payload_config={"max_tokens": 16, "top_p": 2})
    try:
        Agent(model=model, callback_handler=None)("Hi")
    except Exception as error:
        return str(error)
    return ""
