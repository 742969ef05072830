"""``inference.py`` as most people write it: the model in the worker, ``generate`` for each call."""

from __future__ import annotations

import os
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def model_fn(model_dir: str, context: Any = None) -> Any:
    # All cores: the model server limits its workers to one thread.
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = AutoModelForCausalLM.from_pretrained(
        model_dir, torch_dtype=os.environ.get("BENCH_DTYPE", "float32")
    ).eval()
    return model, AutoTokenizer.from_pretrained(model_dir)


def predict_fn(data: dict[str, Any], model: Any) -> dict[str, Any]:
    network, tokenizer = model
    inputs = tokenizer(data["inputs"], return_tensors="pt")
    new_tokens = int(data["new_tokens"])
    with torch.inference_mode():
        ids = network.generate(
            **inputs,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            **(data.get("options") or {"do_sample": False}),
        )
    new_ids = ids[0, inputs["input_ids"].shape[1] :]
    return {"generated_text": tokenizer.decode(new_ids), "generated_tokens": len(new_ids)}
