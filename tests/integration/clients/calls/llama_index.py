from llama_index.llms.sagemaker_endpoint import SageMakerLLM


def _as_it_is(prompt: str, system_prompt: str | None) -> str:
    """Replaces its own, which writes the chat template of Llama 2."""
    return prompt


# It cuts the prompt's length off each answer, so the answer must begin with the prompt.
llm = SageMakerLLM(
    endpoint_name="llama2-7b-throughput",
    model_kwargs={"max_new_tokens": 16, "return_full_text": True},
    temperature=0,
    max_retries=0,
    completion_to_prompt=_as_it_is,
)


def whole() -> str:
    return llm.complete("What is deep learning?").text


def stream() -> str:
    return "".join(part.delta for part in llm.stream_complete("What is deep learning?"))


async def awaited() -> str:
    return (await llm.acomplete("What is deep learning?")).text


def refused() -> str:
    try:
        llm.complete("Hi", top_p=2)
    except Exception as error:
        return str(error)
    return ""
