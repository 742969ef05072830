from openai import AsyncOpenAI, OpenAI, OpenAIError

from inf2kit import AsyncEndpoint, Endpoint

# SageMaker answers within 60 s, and a repeated call is a second generation.
client = OpenAI(**Endpoint("llama2-7b-throughput").openai(), timeout=70, max_retries=0)
question = {"model": "", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 16}


def chat() -> str:
    return client.chat.completions.create(**question).choices[0].message.content


def chat_stream() -> str:
    chunks = client.chat.completions.create(**question, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def chat_awaited() -> str:
    async with AsyncOpenAI(
        **AsyncEndpoint("llama2-7b-throughput").openai(), timeout=70, max_retries=0
    ) as other:
        return (await other.chat.completions.create(**question)).choices[0].message.content


async def chat_awaited_stream() -> str:
    async with AsyncOpenAI(
        **AsyncEndpoint("llama2-7b-throughput").openai(), timeout=70, max_retries=0
    ) as other:
        chunks = await other.chat.completions.create(**question, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


def text_completion() -> str:
    return client.completions.create(model="", prompt="What is deep learning?", max_tokens=16).choices[0].text


def refused() -> str:
    try:
        client.chat.completions.create(**question, top_p=2)
    except OpenAIError as error:
        return str(error)
    return ""
