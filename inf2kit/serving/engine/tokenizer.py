"""The model directory's tokenizer and the ids that end a text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving.engine import backend as backends
from inf2kit.serving.engine.detokenizer import TokenDecoder
from inf2kit.serving.model_dir import GENERATION_CONFIG, MODEL_CONFIG, TOKENIZER
from inf2kit.serving.settings import Settings

_PROCESSOR_TEMPLATE = "chat_template.json"


def load_tokenizer(settings: Settings) -> Any:
    """The transformers tokenizer of the model directory.

    Raises:
        ModelDirectoryError: it cannot be loaded.
    """
    if settings.backend == "simulated" and (settings.model_dir / TOKENIZER).exists():
        # The simulated backend has no model, so the import of every model class is skipped.
        from transformers import PreTrainedTokenizerFast as Tokenizer
    else:
        from transformers import AutoTokenizer as Tokenizer

    try:
        tokenizer = Tokenizer.from_pretrained(settings.model_dir, local_files_only=True)
    except Exception as error:
        if backends.is_transient(error):
            raise
        first_line = str(error).partition("\n")[0]
        raise ModelDirectoryError(
            f"the tokenizer in {settings.model_dir} cannot be loaded ({first_line}); make the package again"
        ) from error
    # transformers reads the template of a processor for processors only; some models have no other one.
    path = settings.model_dir / _PROCESSOR_TEMPLATE
    if not tokenizer.chat_template and path.exists():
        tokenizer.chat_template = _read_config(path).get("chat_template")
    return tokenizer


def read_vocabulary_size(settings: Settings) -> int:
    """Number of tokens that the model knows, which may differ from the tokenizer's.

    Raises:
        ModelDirectoryError: the model's configuration does not say it.
    """
    size = _read_config(settings.model_dir / MODEL_CONFIG).get("vocab_size")
    if not isinstance(size, int) or size < 1:
        raise ModelDirectoryError(
            f"{settings.model_dir / MODEL_CONFIG}: vocab_size is {size!r}; make the package again"
        )
    return size


def read_eos_ids(settings: Settings, tokenizer: Any, vocabulary_size: int) -> frozenset[int]:
    """Every id that ends a text: the tokenizer's, and those in the model's configuration files.

    An id that the model does not know cannot come, and is left out.

    Raises:
        ModelDirectoryError: a configuration file is damaged.
    """
    ids = {tokenizer.eos_token_id}
    for name in (MODEL_CONFIG, GENERATION_CONFIG):
        path = settings.model_dir / name
        if path.exists():
            value = _read_config(path).get("eos_token_id")
            ids.update(value if isinstance(value, list) else [value])
    return frozenset(
        token_id for token_id in ids if isinstance(token_id, int) and 0 <= token_id < vocabulary_size
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelDirectoryError(f"{path} is damaged ({error}); make the package again") from None
    if not isinstance(config, dict):
        raise ModelDirectoryError(f"{path} is not a JSON object; make the package again")
    return config


class PlainDecoder(TokenDecoder):
    """Decodes ids with a transformers tokenizer, without clean-up of spaces: the model's own text."""

    def __init__(self, tokenizer: Any) -> None:
        # The tokenizers library's decoder, if there is one: transformers' wrapper takes six times as long.
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        self._tokenizer = tokenizer
        self._size = len(tokenizer)
        self._special_texts = _special_texts(tokenizer, fast=self._fast is not None)
        self._token_texts: dict[int, str] = {}
        # Some tokenizers drop the space at the start of a text, so that one token alone would lose it.
        self._context: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
        self._context_text = self.decode(self._context)

    @property
    def special_texts(self) -> Mapping[int, str]:
        """The ids that ``decode`` leaves out, and how the vocabulary writes them."""
        return self._special_texts

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without special tokens; added tokens that are not special have a text."""
        if self._fast is not None:
            return str(self._fast.decode(ids, skip_special_tokens=True))
        text: str = self._tokenizer.decode(
            # A slow tokenizer knows no ids beyond its vocabulary; those of a padded one have no text.
            [token_id for token_id in ids if token_id < self._size],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
            spaces_between_special_tokens=False,
        )
        return text

    def token_text(self, token_id: int) -> str:
        """Return the text that an id has within a text; a special token's is what the vocabulary writes."""
        text = self._token_texts.get(token_id)
        if text is None:
            text = self._special_texts.get(token_id)
            if text is None:
                text = self.decode([*self._context, token_id]).removeprefix(self._context_text)
            self._token_texts[token_id] = text
        return text


def _special_texts(tokenizer: Any, *, fast: bool) -> dict[int, str]:
    texts = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    if fast:
        added = tokenizer.added_tokens_decoder.items()
        # The tokenizers library leaves out those that are marked as special, and no others.
        return {token_id: str(token) for token_id, token in added if token.special}
    return texts
