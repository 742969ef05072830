"""The sizes in a Llama's ``config.json`` that its memory depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit import catalog
from inf2kit.errors import CompileError
from inf2kit.serving.model_dir import MODEL_CONFIG

_REQUIRED = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
)


@dataclass(frozen=True)
class Architecture:
    """The sizes of a Llama, with the names that transformers gives them."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool = False

    @property
    def parameters(self) -> int:
        """Number of parameters in the checkpoint; tied embeddings count once."""
        attention = (
            2 * self.hidden_size * (self.num_attention_heads + self.num_key_value_heads) * self.head_dim
        )
        mlp = 3 * self.hidden_size * self.intermediate_size
        layers = self.num_hidden_layers * (attention + mlp + 2 * self.hidden_size)
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return layers + embeddings + self.hidden_size

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str) -> Architecture:
        """Read the values of a ``config.json``.

        Args:
            config: The file's values.
            where: The file's or model's name, for errors.

        Raises:
            CompileError: the model is not a Llama, or a size is missing.
        """
        model_type = config.get("model_type")
        if model_type != "llama":
            raise CompileError(
                f"{where}: model_type is {model_type!r}; inf2kit compiles models of the Llama architecture "
                "only ('llama'), so choose one of those"
            )
        for bias in ("attention_bias", "mlp_bias"):
            if config.get(bias):
                raise CompileError(
                    f"{where}: {bias} is set, which optimum-neuron does not compile for a Llama"
                )
        values: dict[str, Any] = {name: config.get(name) for name in _REQUIRED}
        values["num_key_value_heads"] = config.get("num_key_value_heads") or config.get("num_attention_heads")
        for name, value in values.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise CompileError(
                    f"{where}: {name} is {value!r}; it must be a whole number of at least 1; fetch the "
                    "file again"
                )
        heads, key_value_heads = values["num_attention_heads"], values["num_key_value_heads"]
        if heads % key_value_heads:
            raise CompileError(
                f"{where}: {heads} heads cannot share {key_value_heads} key and value heads evenly"
            )
        head_dim = config.get("head_dim") or values["hidden_size"] // heads
        return cls(
            **values, head_dim=int(head_dim), tie_word_embeddings=bool(config.get("tie_word_embeddings"))
        )

    @classmethod
    def find(cls, model: str) -> Architecture:
        """Look up a model.

        Args:
            model: A model's folder, its ``config.json``, or the name of a preset's model on the hub.

        Raises:
            CompileError: there is none, or it is not a Llama.
        """
        if model in catalog.models():
            return cls.from_config(catalog.models()[model], model)
        path = Path(model)
        path = path / MODEL_CONFIG if path.is_dir() else path
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CompileError(
                f"the architecture of {model!r} is not known; give its config.json or its folder, or "
                f"one of {', '.join(catalog.models())}"
            ) from None
        except (OSError, ValueError) as error:
            raise CompileError(f"{path} cannot be read ({error}); give a model's config.json") from None
        if not isinstance(config, dict):
            raise CompileError(f"{path} is not a JSON object; give a model's config.json")
        return cls.from_config(config, str(path))
