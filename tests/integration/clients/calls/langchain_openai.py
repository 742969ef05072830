from langchain_openai import ChatOpenAI

from inf2kit import Endpoint

openai = Endpoint("llama2-7b-throughput").openai()
llm = ChatOpenAI(model="any", max_tokens=16, timeout=70, max_retries=0, **openai)


def chat() -> str:
    return llm.invoke("Hi").content


def chat_stream() -> str:
    return "".join(chunk.content for chunk in llm.stream("Hi"))


async def chat_awaited() -> str:
    return (await llm.ainvoke("Hi")).content


async def chat_awaited_stream() -> str:
    return "".join([chunk.content async for chunk in llm.astream("Hi")])


def refused() -> str:
    try:
        llm.invoke("Hi", top_p=2)
    except Exception as error:
        return str(error)
    return ""
