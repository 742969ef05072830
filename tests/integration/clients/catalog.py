"""Which clients are tested, how to set them up, and what each cannot do: the data of docs/clients.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.cloud import ROOT

#: The endpoint that the files in ``calls`` name.
ENDPOINT = "llama2-7b-throughput"
FOLDER = Path(__file__).parent
DOCUMENT = ROOT / "docs" / "clients.md"


@dataclass(frozen=True)
class Gap:
    """What a client cannot do, by its own code.

    Attributes:
        call: The function of the client's file that shows it.
        what: What happens, as a sentence for the document.
        file: The file of the client's environment that is the reason, below site-packages; empty if
            SageMaker is.
        line: Code of that line.
        raises: Part of the error, if the call raises or returns one.
        returns: What the call makes of the right text, if it returns another.
    """

    call: str
    what: str
    file: str = ""
    line: str = ""
    raises: str = ""
    returns: Callable[[str], str] | None = None


@dataclass(frozen=True)
class Client:
    """A client of another project.

    Attributes:
        title: Its name in the document.
        package: The package that is installed, whose version the document says.
        environment: The environment that has it: ``aws`` or ``others``.
        file: The file in ``calls`` with what a user writes.
        settings: What to set, and why, as Markdown.
        gaps: What it cannot do.
    """

    title: str
    package: str
    environment: str
    file: str
    settings: str
    gaps: tuple[Gap, ...] = ()

    @property
    def path(self) -> Path:
        """What a user writes."""
        return FOLDER / "calls" / self.file


CLIENTS = (
    Client(
        "boto3",
        "boto3",
        "others",
        "boto3.py",
        "A read timeout above SageMaker's 60 s, and no repetitions: a call that timed out would be generated again.",
    ),
    Client(
        "aws command line",
        "awscli",
        "aws",
        "aws_cli.sh",
        "The body from a file, which versions 1 and 2 read in the same way.",
        (
            Gap(
                "stream",
                "It has no command for streams.",
                "awscli/customizations/removals.py",
                "remove_commands=['invoke-endpoint-with-response-stream']",
                raises="Invalid choice",
            ),
        ),
    ),
    Client(
        "SageMaker SDK v3",
        "sagemaker-core",
        "aws",
        "sagemaker_sdk.py",
        "`AWS_MAX_ATTEMPTS=1` in its environment: else it repeats a call up to ten times (`sagemaker/core/utils/utils.py`). It needs "
        "`sagemaker.core` only, which `pip install sagemaker` brings. It cannot read a stream, so the boto3 that it brings does.",
        (
            Gap(
                "stream",
                "`invoke_with_response_stream` raises an `AttributeError` for any endpoint: it reads the stream as if "
                "it were a dict.",
                "sagemaker/core/utils/code_injection/codec.py",
                "if data.get(_member_name) is None:",
                raises="'EventStream' object has no attribute 'get'",
            ),
        ),
    ),
    Client(
        "LiteLLM, `sagemaker/`",
        "litellm",
        "others",
        "litellm_sagemaker.py",
        "The region, in the call or as `AWS_REGION`, else it takes us-west-2. It sends the messages' texts as one "
        "prompt, without the model's chat template: for a base model. For chats use `sagemaker_chat/`. A template of your own, "
        "though it adds nothing: without one it asks the Hugging Face Hub for that of a model with the endpoint's name "
        "(`litellm/litellm_core_utils/prompt_templates/factory.py`), and waits where there is no network.",
        (
            Gap(
                "stream",
                "A stream loses the white space around its first piece.",
                "litellm/litellm_core_utils/streaming_handler.py",
                "curr_chunk = curr_chunk.strip()",
                returns=str.lstrip,
            ),
            Gap(
                "awaited_stream",
                "The same with `await`.",
                "litellm/litellm_core_utils/streaming_handler.py",
                "curr_chunk = curr_chunk.strip()",
                returns=str.lstrip,
            ),
            Gap(
                "refused",
                "An error is a `ServiceUnavailableError` without the endpoint's sentence, whatever it was: it looks for "
                "botocore's response in httpx's error.",
                "litellm/llms/sagemaker/common_utils.py",
                'response: Final = _ClientErrorResponse.model_validate(getattr(error, "response", None))',
                raises="ServiceUnavailableError",
            ),
        ),
    ),
    Client(
        "LiteLLM, `sagemaker_chat/`",
        "litellm",
        "others",
        "litellm_sagemaker_chat.py",
        "The region, as above. The endpoint applies the model's chat template.",
    ),
    Client(
        "LangChain, `SagemakerEndpoint`",
        "langchain-aws",
        "others",
        "langchain_aws.py",
        "A read timeout and no repetitions, as with boto3. A content handler, whose `transform_output` gets the whole answer, or one line of a stream, of which every "
        "second one is empty. Give stop texts among the parameters: LangChain's own `stop=` is not sent, but cut off each piece.",
    ),
    Client(
        "LlamaIndex, `SageMakerLLM`",
        "llama-index-llms-sagemaker-endpoint",
        "others",
        "llama_index.py",
        "`return_full_text`, since it cuts the prompt's length off each answer; `temperature=0`, since its default is "
        "0.5; no repetitions (its `timeout` is the time to connect only); and its `completion_to_prompt` replaced, which writes Llama 2's chat template by hand.",
        (
            Gap(
                "stream",
                "It takes each part of a stream for a piece of one JSON list, as no server sends it.",
                "llama_index/llms/sagemaker_endpoint/utils.py",
                """response.decode("utf-8").lstrip('[{"generated_text":"').rstrip('"}]')""",
                raises="JSONDecodeError",
            ),
            Gap(
                "awaited",
                "It has no `await`.",
                "llama_index/llms/sagemaker_endpoint/base.py",
                "raise NotImplementedError",
                raises="NotImplementedError",
            ),
        ),
    ),
    Client(
        "LLMeter",
        "llmeter",
        "others",
        "llmeter.py",
        "A session with a read timeout and no repetitions, which would count as one call.",
        (
            Gap(
                "whole",
                "Without a stream it wants a dict. The answer to `inputs` is a list, as Text Generation Inference sends "
                "it, and other clients rely on that. (A latency that it reports there is the clock's own value.)",
                "llmeter/endpoints/sagemaker.py",
                'raw_response_meta = raw_response_body.get("ResponseMetadata", {})',
                raises="'list' object has no attribute 'get'",
            ),
        ),
    ),
    Client(
        "OpenAI",
        "openai",
        "others",
        "openai.py",
        "What `Endpoint.openai()` returns; a read timeout above SageMaker's 60 s, and no repetitions.",
        (
            Gap(
                "text_completion",
                "SageMaker's route has no completions of a `prompt`; its `/invocations` has.",
                raises="404",
            ),
        ),
    ),
    Client(
        "LangChain, `ChatOpenAI`",
        "langchain-openai",
        "others",
        "langchain_openai.py",
        "The same.",
    ),
    Client(
        "LiteLLM, `openai/`",
        "litellm",
        "others",
        "litellm_openai.py",
        "The same, but it takes no function for `api_key`: a token for each call.",
    ),
    Client(
        "Hugging Face, `InferenceClient`",
        "huggingface-hub",
        "others",
        "huggingface_hub.py",
        "The same, but it takes no function for `api_key`: make a client anew before its token ends.",
    ),
    Client(
        "guidellm",
        "guidellm",
        "others",
        "guidellm.sh",
        "A `model`, and no validation: else it asks for `/v1/models` and `/health`, which SageMaker's route does not have. "
        "A token that lasts as long as the run. Its percentiles count the requests that succeeded; look at its number of errors, too.",
    ),
    Client(
        "Strands Agents, `SageMakerAIModel`",
        "strands-agents",
        "aws",
        "strands.py",
        "`strands-agents[sagemaker]`; a read timeout and no repetitions, as with boto3. An `Agent` raises `MaxTokensReachedException` where `max_tokens` ends an answer, "
        "so leave it generous.",
    ),
)
