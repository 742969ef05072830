import os

import litellm

question = [{"role": "user", "content": "What is deep learning?"}]
call = {"model": "sagemaker/llama2-7b-throughput", "max_tokens": 16, "aws_region_name": "us-east-1"}
streamed_call = {**call, "stream": True}
# Without a template of its own it asks the Hugging Face Hub for one, by the endpoint's name.
litellm.register_prompt_template(
    "llama2-7b-throughput", roles={"user": {"pre_message": "", "post_message": ""}}
)
# Only for the rehearsal: it does not read AWS_ENDPOINT_URL, and needs the whole URL of a call.
if url := os.environ.get("AWS_ENDPOINT_URL"):
    call["sagemaker_base_url"] = f"{url}/endpoints/llama2-7b-throughput/invocations"
    streamed_call["sagemaker_base_url"] = call["sagemaker_base_url"] + "-response-stream"


def whole() -> str:
    return litellm.completion(**call, messages=question).choices[0].message.content


def stream() -> str:
    chunks = litellm.completion(**streamed_call, messages=question)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def awaited() -> str:
    response = await litellm.acompletion(**call, messages=question)
    return response.choices[0].message.content


async def awaited_stream() -> str:
    chunks = await litellm.acompletion(**streamed_call, messages=question)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


def text_completion() -> str:
    return litellm.text_completion(**call, prompt="What is deep learning?").choices[0].text


def refused() -> str:
    try:
        litellm.completion(**call, messages=question, top_p=2)
    except Exception as error:
        return str(error)
    return ""
