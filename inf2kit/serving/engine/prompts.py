"""A prompt to token ids: a text as it is, a chat through the model's template, with one BOS, truncated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inf2kit.errors import RequestError
from inf2kit.serving.engine.chat_template import ChatTemplate
from inf2kit.serving.engine.limits import check_characters, truncates
from inf2kit.serving.shapes import StaticShapes
from inf2kit.serving.wire import Chat

#: Tokens before the kept ones that are tokenized with them: where a text is cut, its tokens differ.
_CUT_MARGIN = 64
_SHOWN_TOKEN = 40


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt as the model gets it.

    Attributes:
        ids: Its token ids, at least one.
        warnings: What the chat template does not use.
    """

    ids: list[int]
    warnings: tuple[str, ...] = ()


class PromptTokenizer:
    """Tokenizes prompts. As a tokenizer, it must not be used by several threads at once.

    Args:
        tokenizer: A transformers tokenizer.
        shapes: The static shapes.
        vocabulary_size: Number of tokens that the model knows.

    Attributes:
        longest_token: Characters of the vocabulary's longest token.
    """

    def __init__(self, tokenizer: Any, shapes: StaticShapes, vocabulary_size: int) -> None:
        self._tokenizer = tokenizer
        self._shapes = shapes
        self._vocabulary_size = vocabulary_size
        self.longest_token = max(map(len, tokenizer.get_vocab()))
        # The first call of a tokenizer changes its state; make it before there are several threads.
        ids = tokenizer("a")["input_ids"]
        self._adds_bos = (
            tokenizer.bos_token_id is not None
            and ids[:1] == [tokenizer.bos_token_id]
            and tokenizer("a", add_special_tokens=False)["input_ids"] != ids
        )
        self._template = ChatTemplate(tokenizer)

    def tokenize(self, prompt: str | Chat, truncate: int | None = None) -> TokenizedPrompt:
        """Return the tokens of a prompt.

        Args:
            prompt: What to continue.
            truncate: Number of tokens to keep, the last ones. A BOS that the tokenizer adds counts and stays
                in front, as with transformers' truncation.

        Raises:
            RequestError: 422 for a chat that the template refuses, for a text that is too long, and for
                tokens that the model lacks.
        """
        warnings: tuple[str, ...] = ()
        if isinstance(prompt, Chat):
            text, warnings = self._template.render(prompt)
            if not truncates(truncate, self._shapes):
                check_characters(len(text), self._shapes, self.longest_token)
            # A template writes its own special tokens.
            ids = self._tokenizer(self._cut(text, truncate), add_special_tokens=False)["input_ids"]
        else:
            ids = self._tokenize_text(self._cut(prompt, truncate))
        if truncate is not None and len(ids) > truncate:
            keeps_bos = self._adds_bos and ids[0] == self._tokenizer.bos_token_id and truncate > 1
            ids = [ids[0], *ids[1 - truncate :]] if keeps_bos else ids[-truncate:]
        self._check_ids(ids)
        return TokenizedPrompt(list(ids), warnings)

    def _cut(self, text: str, truncate: int | None) -> str:
        """The end of a text that has the tokens to keep, so that the time for 25 MB is bounded."""
        if not truncates(truncate, self._shapes):
            return text
        characters = (self._shapes.max_context_length + _CUT_MARGIN) * self.longest_token
        return text[-characters:]

    def _tokenize_text(self, text: str) -> list[int]:
        bos = self._tokenizer.bos_token
        if self._adds_bos and (bare := text.lstrip(" ")).startswith(bos):
            # The text brings its own BOS, as templates written by hand do: the tokenizer's is one too many.
            ids: list[int] = self._tokenizer(bare)["input_ids"]
            return ids[1:] if ids[:2] == [self._tokenizer.bos_token_id] * 2 else ids
        return list(self._tokenizer(text)["input_ids"])

    def _check_ids(self, ids: list[int]) -> None:
        if not ids:
            raise RequestError(422, "empty_inputs", "the text has no tokens; send at least one character")
        if max(ids) >= self._vocabulary_size:
            token = str(self._tokenizer.convert_ids_to_tokens(max(ids)))[:_SHOWN_TOKEN]
            raise RequestError(
                422,
                "invalid_inputs",
                f"the prompt has the token {token!r} ({max(ids)}), which the tokenizer knows and the model "
                f"does not: its vocabulary has {self._vocabulary_size:,} tokens; leave it out",
            )
