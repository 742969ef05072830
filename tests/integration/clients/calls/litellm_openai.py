import litellm

from inf2kit import Endpoint

openai = Endpoint("llama2-7b-throughput").openai()
call = {
    "model": "openai/any",
    "api_base": openai["base_url"],
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 16,
    "timeout": 70,
    "max_retries": 0,
}


def chat() -> str:
    return litellm.completion(**call, api_key=openai["api_key"]()).choices[0].message.content


def chat_stream() -> str:
    chunks = litellm.completion(**call, api_key=openai["api_key"](), stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def chat_awaited() -> str:
    response = await litellm.acompletion(**call, api_key=openai["api_key"]())
    return response.choices[0].message.content


async def chat_awaited_stream() -> str:
    chunks = await litellm.acompletion(**call, api_key=openai["api_key"](), stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


def refused() -> str:
    try:
        litellm.completion(**call, api_key=openai["api_key"](), top_p=2)
    except Exception as error:
        return str(error)
    return ""
