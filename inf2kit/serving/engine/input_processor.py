"""A call's body to jobs: validated, tokenized, clamped to the row."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from inf2kit.errors import ModelDirectoryError, RequestError
from inf2kit.serving.engine import backend as backends
from inf2kit.serving.engine.limits import check_size
from inf2kit.serving.engine.protocol import Event, error_event
from inf2kit.serving.engine.sequence import Call, Job
from inf2kit.serving.engine.settings import Settings
from inf2kit.serving.model_dir import GENERATION_CONFIG, MODEL_CONFIG, TOKENIZER
from inf2kit.serving.wire import GenerateRequest, Generation, Token, parse_request


class Intake:
    """Reads calls for one model. Not safe for several threads at once, as a tokenizer is not.

    Args:
        settings: Of the endpoint.
        backend: May refuse parameters.
        tokenizer: Of transformers.

    Attributes:
        longest_token: Characters of the vocabulary's longest token.
    """

    def __init__(self, settings: Settings, backend: backends.Backend, tokenizer: Any) -> None:
        self._settings = settings
        self._backend = backend
        self._tokenizer = tokenizer
        self.longest_token = max(map(len, tokenizer.get_vocab()))
        # Settles what a first call changes in a tokenizer, before there are several threads.
        tokenizer("a")
        self._notices = [notice for notice in (backend.notice, settings.notice) if notice]

    def read(self, call: Event, tell: Callable[[Event], None]) -> tuple[Event, list[Job]]:
        """The call's first event and its jobs, which ``tell`` events from the scheduler's thread.

        Raises:
            RequestError: the body is refused.
        """
        settings = self._settings
        request = parse_request(call["body"], max_prompts=settings.max_prompts)
        check_size(request, settings.shapes, self.longest_token)
        self._backend.check(request.parameters)
        arrival = float(call.get("arrival") or time.monotonic())
        stream = bool(call.get("stream"))
        shared = Call()
        texts = [(text, text) for text in request.prompts] if request.prompts else [("", None)]
        jobs = []
        for index, (text, prompt) in enumerate(texts):
            ids = self._encode(prompt, request)
            allowed, warnings = self._allowed(len(ids), request)
            jobs.append(
                Job(
                    prompt_ids=ids,
                    parameters=request.parameters,
                    max_new_tokens=allowed,
                    deadline=arrival + settings.deadline_s,
                    arrival=arrival,
                    prompt_text=text if request.parameters.return_full_text else "",
                    warnings=warnings,
                    with_tokens=stream or request.parameters.details,
                    call=shared,
                    **_callbacks(index, tell, with_tokens=stream),
                )
            )
        accepted = {
            "event": "accepted",
            "form": request.form,
            "details": request.parameters.details,
            "include_usage": request.include_usage,
            "model": settings.model_name,
            "warnings": [*self._notices, *request.warnings],
        }
        return accepted, jobs

    def _allowed(self, length: int, request: GenerateRequest) -> tuple[int, tuple[str, ...]]:
        parameters, shapes = request.parameters, self._settings.shapes
        allowed = shapes.new_tokens_within(length, parameters.max_new_tokens, overflow=parameters.overflow)
        if parameters.max_new_tokens is None or allowed >= parameters.max_new_tokens:
            return allowed, ()
        return allowed, (
            f"max_new_tokens was lowered to {allowed}: the prompt has {length} tokens and "
            f"sequence_length is {shapes.sequence_length}",
        )

    def _encode(self, prompt: str | None, request: GenerateRequest) -> list[int]:
        if prompt is not None:
            ids = self._tokenizer(prompt)["input_ids"]
        elif self._tokenizer.chat_template is None:
            raise RequestError(
                422,
                "no_chat_template",
                "this model has no chat template (it is a base model); send 'inputs' instead of 'messages'",
            )
        else:
            messages = [dict(message) for message in request.messages]
            try:
                ids = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True)
            except Exception as error:  # a template may raise what it likes, jinja2's errors among it
                raise RequestError(
                    422, "invalid_messages", f"the model's chat template refuses the messages: {error}"
                ) from None
        if not ids:
            raise RequestError(422, "empty_inputs", "the text has no tokens; send at least one character")
        return list(ids)


class PlainText:
    """A transformers tokenizer, decoding without clean-up: the text as the model wrote it."""

    def __init__(self, tokenizer: Any) -> None:
        # The library's own decoder: transformers' wrapper around it takes six times as long.
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        self._tokenizer = tokenizer

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out."""
        if self._fast is not None:
            return str(self._fast.decode(ids, skip_special_tokens=True))
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


def _callbacks(prompt: int, tell: Callable[[Event], None], *, with_tokens: bool) -> dict[str, Any]:
    def on_token(index: int, token: Token) -> None:
        if with_tokens:
            tell({"event": "token", "prompt": prompt, "index": index, "token": token.as_json()})

    def on_end(index: int, token: Token | None, generation: Generation) -> None:
        tell(
            {
                "event": "end",
                "prompt": prompt,
                "index": index,
                "token": token.as_json() if token else None,
                "generation": asdict(generation),
            }
        )

    def on_error(error: RequestError) -> None:
        tell(error_event(error))

    return {"on_token": on_token, "on_end": on_end, "on_error": on_error}


def load_tokenizer(settings: Settings) -> Any:
    """The model directory's tokenizer.

    Raises:
        ModelDirectoryError: it cannot be loaded.
    """
    if settings.backend == "simulated" and (settings.model_dir / TOKENIZER).exists():
        # The simulated backend has no model, so the import of every model class is skipped.
        from transformers import PreTrainedTokenizerFast as Tokenizer
    else:
        from transformers import AutoTokenizer as Tokenizer

    try:
        return Tokenizer.from_pretrained(settings.model_dir, local_files_only=True)
    except Exception as error:
        if backends.is_transient(error):
            raise
        first_line = str(error).partition("\n")[0]
        raise ModelDirectoryError(
            f"the tokenizer in {settings.model_dir} cannot be loaded ({first_line}); make the package again"
        ) from error


def eos_ids(settings: Settings, tokenizer: Any) -> frozenset[int]:
    """Every id that ends a text: the tokenizer's and those of the model's own configuration."""
    ids = {tokenizer.eos_token_id}
    for name in (MODEL_CONFIG, GENERATION_CONFIG):
        path = settings.model_dir / name
        if path.exists():
            given = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            ids.update(given if isinstance(given, list) else [given])
    return frozenset(token_id for token_id in ids if token_id is not None)
