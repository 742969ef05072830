"""From a call's body to requests for the scheduler: validated, tokenized, clamped to the row."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from inf2kit.errors import RequestError
from inf2kit.serving.engine.backend import Backend
from inf2kit.serving.engine.events import AcceptedEvent, EndEvent, ErrorEvent, GenerationEvent, TokenEvent
from inf2kit.serving.engine.limits import check_size
from inf2kit.serving.engine.request import Request, RequestGroup
from inf2kit.serving.settings import Settings
from inf2kit.serving.wire import Chat, GenerateRequest, Generation, Token, parse_request

Emit = Callable[[GenerationEvent], None]


class InputProcessor:
    """Reads the calls for one model. As a tokenizer, it must not be used by several threads at once.

    Args:
        settings: The endpoint's settings.
        backend: The loaded backend; it may refuse parameters.
        tokenizer: A transformers tokenizer.

    Attributes:
        longest_token: Characters of the vocabulary's longest token.
    """

    def __init__(self, settings: Settings, backend: Backend, tokenizer: Any) -> None:
        self._settings = settings
        self._backend = backend
        self._tokenizer = tokenizer
        self.longest_token = max(map(len, tokenizer.get_vocab()))
        # The first call of a tokenizer changes its state; make it before there are several threads.
        tokenizer("a")
        self._notices = [notice for notice in (backend.notice, settings.notice) if notice]

    def process(
        self, body: object, emit: Emit, *, arrival: float | None = None
    ) -> tuple[AcceptedEvent, list[Request]]:
        """Read one call.

        Args:
            body: JSON value of the call's body.
            emit: Called with each event of the requests, on the scheduler's thread.
            arrival: Monotonic time at which the call arrived; None stands for now.

        Returns:
            The call's first event, and a request for each of its prompts.

        Raises:
            RequestError: the body is refused.
        """
        settings = self._settings
        call = parse_request(body, max_prompts=settings.max_prompts)
        check_size(call, settings.shapes, self.longest_token)
        self._backend.check(call.parameters)
        arrival = time.monotonic() if arrival is None else arrival
        group = RequestGroup()
        requests = [
            self._request(call, index, prompt, emit, group, arrival)
            for index, prompt in enumerate(call.prompts)
        ]
        accepted = AcceptedEvent(
            form=call.form,
            details=call.parameters.details,
            logprobs=call.parameters.logprobs,
            include_usage=call.include_usage,
            model=settings.model_name,
            warnings=(*self._notices, *call.warnings),
            n=call.parameters.n,
            texts=call.texts,
        )
        return accepted, requests

    def _request(
        self,
        call: GenerateRequest,
        index: int,
        prompt: str | Chat,
        emit: Emit,
        group: RequestGroup,
        arrival: float,
    ) -> Request:
        def on_token(count: int, token: Token) -> None:
            emit(TokenEvent(index, count, token))

        def on_end(count: int, token: Token | None, generation: Generation) -> None:
            emit(EndEvent(index, count, token, generation))

        def on_error(error: RequestError) -> None:
            emit(ErrorEvent.from_error(error))

        ids = self._tokenize(prompt)
        max_new_tokens, warnings = self._clamp(len(ids), call)
        return Request(
            prompt_ids=ids,
            parameters=call.parameters,
            max_new_tokens=max_new_tokens,
            deadline=arrival + self._settings.deadline_s,
            on_token=on_token if call.stream else _ignore_token,
            on_end=on_end,
            on_error=on_error,
            arrival=arrival,
            prompt_text=prompt if isinstance(prompt, str) and call.parameters.return_full_text else "",
            warnings=warnings,
            with_tokens=call.stream or call.parameters.lists_tokens,
            group=group,
        )

    def _clamp(self, input_length: int, call: GenerateRequest) -> tuple[int, tuple[str, ...]]:
        """The number of new tokens that fit the row, and a warning if it is less than the call asks for."""
        parameters, shapes = call.parameters, self._settings.shapes
        allowed = shapes.new_tokens_within(
            input_length, parameters.max_new_tokens, overflow=parameters.overflow
        )
        if parameters.max_new_tokens is None or allowed >= parameters.max_new_tokens:
            return allowed, ()
        return allowed, (
            f"max_new_tokens was lowered to {allowed}: the prompt has {input_length} tokens and "
            f"sequence_length is {shapes.sequence_length}",
        )

    def _tokenize(self, prompt: str | Chat) -> list[int]:
        if isinstance(prompt, str):
            ids = self._tokenizer(prompt)["input_ids"]
        elif self._tokenizer.chat_template is None:
            raise RequestError(
                422,
                "no_chat_template",
                "this model has no chat template (it is a base model); send 'inputs' instead of 'messages'",
            )
        else:
            messages = [dict(message) for message in prompt.messages]
            try:
                ids = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True)
            except Exception as error:  # a template may raise anything, for example jinja2's errors
                raise RequestError(
                    422, "invalid_messages", f"the model's chat template refuses the messages: {error}"
                ) from None
        if not ids:
            raise RequestError(422, "empty_inputs", "the text has no tokens; send at least one character")
        return list(ids)


def _ignore_token(count: int, token: Token) -> None:
    pass
