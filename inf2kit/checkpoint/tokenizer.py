"""The tokenizer's files: what the endpoint cannot load, and what is rewritten so that it loads the same.

transformers 5 names classes that version 4.55 does not have, leaves the tokens to ``tokenizer.json`` and
writes ``extra_special_tokens`` as a list, over which version 4.55 fails (``tokenization_utils_base.py`` of
both).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inf2kit.serving.model_dir import SENTENCEPIECE_TOKENIZER, TOKENIZER

CONFIG = "tokenizer_config.json"
_FAST = "PreTrainedTokenizerFast"
#: Classes of transformers 5 that version 4.55 does not have.
_BACKENDS = ("TokenizersBackend", "SentencePieceBackend", "PythonBackend", "MistralCommonBackend")
#: Keys that transformers 5 adds, and version 4.55 would take for arguments of the tokenizer.
_NEW_KEYS = ("backend", "is_local", "local_files_only", "response_template", "chat_control_tokens")


def find_fault(names: frozenset[str], where: str) -> str | None:
    """Return what is wrong with a folder's tokenizer by the names of its files, or None.

    Args:
        names: The files that a package would hold.
        where: The folder's name in the sentence.
    """
    if TOKENIZER in names:
        return None
    save = f"AutoTokenizer.from_pretrained({where!r}).save_pretrained({where!r})"
    if SENTENCEPIECE_TOKENIZER in names or any(name.endswith((".model", ".spm")) for name in names):
        return (
            f"{where} has its tokenizer as SentencePiece only, without {TOKENIZER}, and the endpoint may "
            f"lack the package that reads it; write {TOKENIZER} with {save}, which needs sentencepiece"
        )
    if "vocab.json" in names or "merges.txt" in names:
        return f"{where} has its tokenizer as vocab.json and merges.txt only; write {TOKENIZER} with {save}"
    return (
        f"{where} lacks its tokenizer ({TOKENIZER}); save it there with "
        f"AutoTokenizer.from_pretrained(MODEL).save_pretrained({where!r})"
    )


def find_config_fault(config: Mapping[str, Any], where: str) -> str | None:
    """Return what keeps ``tokenizer_config.json`` from being loaded, or None.

    Args:
        config: The file's values, rewritten for the image.
        where: The file's name in the sentence.
    """
    name, code = config.get("tokenizer_class"), config.get("auto_map")
    if code and not (isinstance(name, str) and name.endswith(("Fast", "Tokenizer"))):
        return (
            f"{where}: the tokenizer is code of the model's own (auto_map), which is never run; save it as a "
            f"{_FAST} with a {TOKENIZER}"
        )
    return None


def rewrite(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Rewrite ``tokenizer_config.json`` for the image's version of transformers.

    What transformers 5 saves is in ``tokenizer.json`` as a whole, so the class that takes that file as it is
    gives the same tokens. Its own classes of version 4.55 would add a beginning-of-sequence token by rules of
    their own.

    Args:
        config: The file's values, as any version writes them.
        tokenizer: The values of ``tokenizer.json``.

    Returns:
        The values as version 4.55 reads them, and what was changed, in words.
    """
    values, changes = dict(config), list[str]()
    is_new = "backend" in values or values.get("tokenizer_class") in _BACKENDS
    extra = values.get("extra_special_tokens")
    if isinstance(extra, list):
        before = values.pop("additional_special_tokens", None) or []
        values["additional_special_tokens"] = [*before, *(token for token in extra if token not in before)]
        del values["extra_special_tokens"]
        changes.append("the list extra_special_tokens becomes additional_special_tokens")
    if is_new:
        name = values.get("tokenizer_class")
        if name != _FAST:
            values["tokenizer_class"] = _FAST
            changes.append(f"tokenizer_class {name} becomes {_FAST}")
        # Version 4.55's default has token_type_ids, which no model here takes.
        values.setdefault("model_input_names", ["input_ids", "attention_mask"])
        for key in _NEW_KEYS:
            values.pop(key, None)
        # Version 4.55 changes the pre-tokenizer where this key says something else than tokenizer.json.
        pre_tokenizer = tokenizer.get("pre_tokenizer")
        values.pop("add_prefix_space", None)
        if isinstance(pre_tokenizer, Mapping) and "add_prefix_space" in pre_tokenizer:
            values["add_prefix_space"] = pre_tokenizer["add_prefix_space"]
    return values, changes


def find_unreadable(path: Path, name: Path) -> str | None:
    """Return why the tokenizers library cannot read ``tokenizer.json``, or None; also where it is not
    installed.

    Args:
        path: The file.
        name: The path that the user knows it by.
    """
    try:
        from tokenizers import Tokenizer, __version__
    except ImportError:
        return None
    try:
        Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more exact
        reason = str(error).partition("\n")[0]
        return (
            f"{name} cannot be read by tokenizers {__version__} ({reason}); save the tokenizer again with "
            "the endpoint's version of transformers"
        )
    return None


def count_tokens(tokenizer: Mapping[str, Any]) -> int:
    """Return the number of ids of a ``tokenizer.json``: its highest id, and one.

    Raises:
        KeyError, TypeError, ValueError: the file has another form.
    """
    vocabulary = tokenizer["model"]["vocab"]
    highest = len(vocabulary) - 1 if isinstance(vocabulary, list) else max(vocabulary.values(), default=-1)
    return 1 + max([highest, *(int(token["id"]) for token in tokenizer.get("added_tokens") or ())])
