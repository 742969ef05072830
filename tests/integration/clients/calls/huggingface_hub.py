from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from inf2kit import Endpoint

openai = Endpoint("llama2-7b-throughput").openai(lifetime_s=3600)
options = {"base_url": openai["base_url"], "api_key": openai["api_key"](), "timeout": 70}
client, async_client = InferenceClient(**options), AsyncInferenceClient(**options)
messages = [{"role": "user", "content": "Hi"}]


def chat() -> str:
    return client.chat_completion(messages, max_tokens=16).choices[0].message.content


def chat_stream() -> str:
    chunks = client.chat_completion(messages, max_tokens=16, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def chat_awaited() -> str:
    answer = await async_client.chat_completion(messages, max_tokens=16)
    return answer.choices[0].message.content


async def chat_awaited_stream() -> str:
    chunks = await async_client.chat_completion(messages, max_tokens=16, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


def refused() -> str:
    try:
        client.chat_completion(messages, max_tokens=16, top_p=2)
    except HfHubHTTPError as error:
        return str(error)
    return ""
