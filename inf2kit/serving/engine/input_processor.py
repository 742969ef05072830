"""From a call's body to requests for the scheduler: validated, tokenized, clamped to the row."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from inf2kit.errors import RequestError
from inf2kit.serving.engine.backend import Backend
from inf2kit.serving.engine.detokenizer import IncrementalDetokenizer, TokenDecoder
from inf2kit.serving.engine.events import AcceptedEvent, EndEvent, ErrorEvent, GenerationEvent, TokenEvent
from inf2kit.serving.engine.limits import check_size
from inf2kit.serving.engine.prompts import PromptTokenizer, TokenizedPrompt
from inf2kit.serving.engine.request import Request, RequestGroup
from inf2kit.serving.engine.row_sampler import random_seed, seed_of_answer
from inf2kit.serving.settings import Settings
from inf2kit.serving.wire import Chat, GenerateRequest, Generation, Parameters, Token, parse_request

Emit = Callable[[GenerationEvent], None]


class InputProcessor:
    """Reads the calls for one model. As a tokenizer, it must not be used by several threads at once.

    Args:
        settings: The endpoint's settings.
        backend: The loaded backend; it may refuse parameters.
        tokenizer: A transformers tokenizer.
        decoder: Decodes the same vocabulary.
        vocabulary_size: Number of tokens that the model knows.

    Attributes:
        longest_token: Characters of the vocabulary's longest token.
    """

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        tokenizer: Any,
        decoder: TokenDecoder,
        vocabulary_size: int,
    ) -> None:
        self._settings = settings
        self._backend = backend
        self._decoder = decoder
        self._vocabulary_size = vocabulary_size
        self._prompts = PromptTokenizer(tokenizer, settings.shapes, vocabulary_size)
        self.longest_token = self._prompts.longest_token
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
            The call's first event, and a request for each text to generate: all answers to the first prompt,
            then those to the second.

        Raises:
            RequestError: the body is refused.
        """
        settings = self._settings
        call = parse_request(body, max_prompts=settings.max_prompts)
        check_size(call, settings.shapes, self.longest_token)
        self._backend.check(call.parameters)
        self._check_ids(call.parameters)
        arrival = time.monotonic() if arrival is None else arrival
        group = RequestGroup()
        requests: list[Request] = []
        for prompt in call.prompts:
            tokenized = self._prompts.tokenize(prompt, call.parameters.truncate)
            listed = self._list_tokens(tokenized.ids) if call.parameters.decoder_input_details else ()
            for parameters in _each_answer(call.parameters):
                request = self._request(
                    call, len(requests), prompt, tokenized, parameters, emit, group=group, arrival=arrival
                )
                request.prompt_tokens = listed
                requests.append(request)
        accepted = AcceptedEvent(
            form=call.form,
            details=call.parameters.details,
            logprobs=call.parameters.logprobs,
            usage=call.usage,
            model=settings.model_name,
            warnings=(*self._notices, *call.warnings, *self._backend.caveats(call.parameters)),
            n=call.parameters.n,
            texts=call.texts,
            input_lengths=tuple(len(request.prompt_ids) for request in requests[:: call.parameters.n]),
        )
        return accepted, requests

    def _request(
        self,
        call: GenerateRequest,
        choice: int,
        prompt: str | Chat,
        tokenized: TokenizedPrompt,
        parameters: Parameters,
        emit: Emit,
        *,
        group: RequestGroup,
        arrival: float,
    ) -> Request:
        def on_token(count: int, token: Token) -> None:
            emit(TokenEvent(choice, count, token))

        def on_end(count: int, token: Token | None, generation: Generation) -> None:
            emit(EndEvent(choice, count, token, generation))

        def on_error(error: RequestError) -> None:
            emit(ErrorEvent.from_error(error))

        max_new_tokens, warnings = self._clamp(len(tokenized.ids), parameters)
        lists_tokens = parameters.lists_tokens
        return Request(
            prompt_ids=tokenized.ids,
            parameters=parameters,
            max_new_tokens=max_new_tokens,
            deadline=arrival + self._settings.deadline_s,
            stream_deadline=arrival + self._settings.limit_s(stream=True) if call.stream else None,
            on_token=on_token if call.stream else _ignore_token,
            on_end=on_end,
            on_error=on_error,
            arrival=arrival,
            prompt_text=prompt if isinstance(prompt, str) and parameters.return_full_text else "",
            warnings=(*tokenized.warnings, *warnings),
            with_tokens=call.stream or lists_tokens,
            # Only Text Generation Inference's streams have log-probabilities unasked.
            with_logprobs=lists_tokens or (call.stream and call.form == "tgi"),
            group=group,
        )

    def _clamp(self, input_length: int, parameters: Parameters) -> tuple[int, tuple[str, ...]]:
        """The number of new tokens that fit the row, and a warning if it is less than the call asks for."""
        shapes = self._settings.shapes
        allowed = shapes.new_tokens_within(
            input_length, parameters.max_new_tokens, overflow=parameters.overflow
        )
        if parameters.max_new_tokens is None or allowed >= parameters.max_new_tokens:
            return allowed, ()
        return allowed, (
            f"max_new_tokens was lowered to {allowed}: prompt and answer share the sequence_length of "
            f"{shapes.sequence_length} tokens, and the prompt has {input_length}",
        )

    def _check_ids(self, parameters: Parameters) -> None:
        """Refuse ids in options that are not in the vocabulary: they are of another model."""
        ids = {"logit_bias": [pair[0] for pair in parameters.logit_bias]}
        ids["stop_token_ids"] = list(parameters.stop_token_ids)
        for name, option_ids in ids.items():
            for token_id in option_ids:
                if not 0 <= token_id < self._vocabulary_size:
                    raise RequestError(
                        422,
                        "invalid_parameter",
                        f"'{name}' has the token id {token_id}; this model's are 0 to "
                        f"{self._vocabulary_size - 1}: take the ids of its own tokenizer",
                    )

    def _list_tokens(self, ids: list[int]) -> tuple[Token, ...]:
        """The prompt's tokens; their texts, joined, are the prompt's text with its special tokens."""
        special = self._decoder.special_texts
        text = IncrementalDetokenizer(self._decoder, ())
        texts = [text.push(token_id) for token_id in ids]
        texts[-1] += text.flush()
        return tuple(
            Token(token_id, special.get(token_id, token_text), None, token_id in special)
            for token_id, token_text in zip(ids, texts, strict=True)
        )


def _each_answer(parameters: Parameters) -> list[Parameters]:
    """The parameters of each answer to a prompt, which differ in the seed."""
    if parameters.n == 1 or not parameters.do_sample:
        return [parameters] * parameters.n
    first = random_seed() if parameters.seed is None else parameters.seed
    return [
        dataclasses.replace(parameters, seed=seed_of_answer(first, number)) for number in range(parameters.n)
    ]


def _ignore_token(count: int, token: Token) -> None:
    pass
