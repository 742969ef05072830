"""``inference.py`` as most people write it: the model in the worker, ``generate`` for each call."""

from __future__ import annotations

import os
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def model_fn(model_dir: str, context: Any = None) -> Any:
    # The model server gives its workers one thread; this is kinder.
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = AutoModelForCausalLM.from_pretrained(
        model_dir, torch_dtype=os.environ.get("BENCH_DTYPE", "float32")
    ).eval()
    return model, AutoTokenizer.from_pretrained(model_dir)


def predict_fn(data: dict[str, Any], model: Any) -> dict[str, Any]:
    network, tokenizer = model
    inputs = tokenizer(data["inputs"], return_tensors="pt")
    wanted = int(data["new_tokens"])
    with torch.inference_mode():
        ids = network.generate(**inputs, max_new_tokens=wanted, min_new_tokens=wanted, do_sample=False)
    new = ids[0, inputs["input_ids"].shape[1] :]
    return {"generated_text": tokenizer.decode(new), "generated_tokens": len(new)}
