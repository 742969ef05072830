"""The model directory's tokenizer and the ids that end a text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from inf2kit.errors import ModelDirectoryError
from inf2kit.serving.engine import backend as backends
from inf2kit.serving.model_dir import GENERATION_CONFIG, MODEL_CONFIG, TOKENIZER
from inf2kit.serving.settings import Settings


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
        return Tokenizer.from_pretrained(settings.model_dir, local_files_only=True)
    except Exception as error:
        if backends.is_transient(error):
            raise
        first_line = str(error).partition("\n")[0]
        raise ModelDirectoryError(
            f"the tokenizer in {settings.model_dir} cannot be loaded ({first_line}); make the package again"
        ) from error


def read_eos_ids(settings: Settings, tokenizer: Any) -> frozenset[int]:
    """Every id that ends a text: the tokenizer's, and those in the model's configuration files."""
    ids = {tokenizer.eos_token_id}
    for name in (MODEL_CONFIG, GENERATION_CONFIG):
        path = settings.model_dir / name
        if path.exists():
            value = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
            ids.update(value if isinstance(value, list) else [value])
    return frozenset(token_id for token_id in ids if token_id is not None)


class PlainDecoder:
    """Decodes ids with a transformers tokenizer, without clean-up of spaces: the model's own text."""

    def __init__(self, tokenizer: Any) -> None:
        # The tokenizers library's decoder, if there is one: transformers' wrapper takes six times as long.
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        self._tokenizer = tokenizer

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        if self._fast is not None:
            return str(self._fast.decode(ids, skip_special_tokens=True))
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
