# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bring your own `inference.py`
#
# **Time:** 2 minutes. **Cost:** nothing. **Needs:** `make setup`, or `pip install '.[local]'`; no AWS account.
#
# SageMaker's toolkit calls four hooks in `inference.py`: `model_fn`, `input_fn`, `predict_fn`, `output_fn`. inf2kit's own pass calls on to the
# engine. Yours may do something before and after.

# %% tags=["parameters"]
PRESET = "smollm2-135m-local"
NAME = "shouting"

# %%
import tempfile
from pathlib import Path

handler = Path(tempfile.mkdtemp()) / "inference.py"
handler.write_text('''"""Answers in capitals."""

from inf2kit.serving.worker import input_fn, model_fn, output_fn
from inf2kit.serving.worker import predict_fn as generate


def predict_fn(data, model):
    answers = generate(data, model)
    if isinstance(answers, list):  # else it is a refusal
        for answer in answers:
            answer["generated_text"] = answer["generated_text"].upper()
    return answers
''')

# %%
# !inf2kit local up {PRESET} --name {NAME} --handler {handler}

# %%
from inf2kit import Endpoint

shouting = Endpoint(NAME)
print(shouting.generate("My favorite place on earth is", max_new_tokens=16).text)

# %% [markdown]
# Streams do not pass through a handler: they come from the engine, token by token.

# %%
print(shouting.stream("My favorite place on earth is", max_new_tokens=16).read().text)

# %% [markdown]
# The same file goes into a package: `inf2kit package SOURCE --preset PRESET --handler inference.py --output s3://BUCKET/models`.
#
# ## Clean up

# %%
# !inf2kit local down {NAME}
# !inf2kit local status
