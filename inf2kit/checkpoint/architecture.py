"""The sizes in a model's ``config.json`` that its memory depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inf2kit import catalog
from inf2kit.checkpoint import config as configs
from inf2kit.checkpoint.families import FAMILIES, Family
from inf2kit.checkpoint.folder import read_json
from inf2kit.checkpoint.reader import check_config, inspect
from inf2kit.errors import CheckpointError
from inf2kit.serving.model_dir import MODEL_CONFIG


@dataclass(frozen=True)
class Architecture:
    """The sizes of a model, with the names that transformers gives them.

    Attributes:
        model_type: The family's name.
        window: How many tokens back the model attends; None where it attends to all.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool = False
    model_type: str = "llama"
    window: int | None = None

    @property
    def family(self) -> Family:
        """What the models of its family have in common."""
        return FAMILIES[self.model_type]

    @property
    def parameters(self) -> int:
        """Number of parameters in the checkpoint; tied embeddings count once."""
        heads, key_value_heads = self.num_attention_heads, self.num_key_value_heads
        attention = 2 * self.hidden_size * (heads + key_value_heads) * self.head_dim
        if self.family.qkv_bias:
            attention += (heads + 2 * key_value_heads) * self.head_dim
        if self.family.qk_norm:
            attention += 2 * self.head_dim
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
            CheckpointError: the model cannot be compiled, or a size is missing.
        """
        config = check_config(config, where)
        family = FAMILIES[config["model_type"]]
        values = {name: config[name] for name in configs.SIZES}
        heads = config["num_attention_heads"]
        head_dim = config.get("head_dim") or family.head_dim or config["hidden_size"] // heads
        return cls(
            **values,
            num_key_value_heads=config.get("num_key_value_heads") or heads,
            head_dim=int(head_dim),
            tie_word_embeddings=bool(config.get("tie_word_embeddings", family.tied)),
            model_type=config["model_type"],
            window=configs.window(config),
        )

    @classmethod
    def find(cls, model: str) -> Architecture:
        """Look up a model.

        Args:
            model: A model's folder, its ``config.json``, or the name of a preset's model on the hub.

        Raises:
            CheckpointError: there is none, or it cannot be compiled.
        """
        if model in catalog.models():
            return cls.from_config(catalog.models()[model], model)
        path = Path(model)
        if path.is_dir() and any(file.suffix != ".json" for file in path.iterdir()):
            inspection = inspect(path)
            inspection.check()
            return cls.from_config(inspection.config, str(path / MODEL_CONFIG))
        path = path / MODEL_CONFIG if path.is_dir() else path
        if not path.exists():
            raise CheckpointError(
                f"the architecture of {model!r} is not known; give its config.json or its folder, or "
                f"one of {', '.join(catalog.models())}"
            )
        return cls.from_config(read_json(path, path), str(path))
