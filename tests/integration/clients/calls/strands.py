import asyncio

from botocore.config import Config
from strands import Agent
from strands.models.sagemaker import SageMakerAIModel


def _model(**options) -> SageMakerAIModel:
    return SageMakerAIModel(
        endpoint_config={"endpoint_name": "llama2-7b-throughput", "region_name": "us-east-1"},
        payload_config={"max_tokens": 16, **options},
        boto_client_config=Config(read_timeout=70, retries={"total_max_attempts": 1}),
    )


async def _read(model: SageMakerAIModel) -> str:
    events = [event async for event in model.stream([{"role": "user", "content": [{"text": "Hi"}]}])]
    return "".join(
        event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event
    )


def chat() -> str:
    return asyncio.run(_read(_model(stream=False)))


async def chat_stream() -> str:
    return await _read(_model())


def refused() -> str:
    try:
        Agent(model=_model(top_p=2), callback_handler=None)("Hi")
    except Exception as error:
        return str(error)
    return ""
