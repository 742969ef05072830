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
# # Rehearse an endpoint on this machine
#
# **Time:** 2 minutes. **Cost:** nothing. **Needs:** `make setup`, or `pip install '.[local,bench]'` in a clone; no AWS account.
#
# A local endpoint runs what a container on `ml.inf2` runs: the model server, the handler, the scheduler. In place of the
# device there is a small real Llama (SmolLM2-135M) on the CPU. Every call below goes through boto3's API, as on AWS.

# %% tags=["parameters"]
ENDPOINT = "smollm2-135m-local"  # a preset of this machine; its endpoint has the same name

# %%
# !inf2kit local up {ENDPOINT}

# %% [markdown]
# ## A whole answer

# %%
from inf2kit import Endpoint

llama = Endpoint(ENDPOINT)
result = llama.generate("My favorite place on earth is", max_new_tokens=32, temperature=0.7, seed=7)
print(result.text)
print(f"{result.generated_tokens} tokens, {result.finish_reason}")

# %% [markdown]
# ## A stream

# %%
import time

arrivals = []
began = time.perf_counter()
with llama.stream("Once upon a time", max_new_tokens=48) as stream:
    for text in stream:
        arrivals.append(time.perf_counter() - began)
        print(text, end="")

# %% [markdown]
# ## A chat
#
# The model's own chat template makes the prompt.

# %%
messages = [{"role": "user", "content": "Name three large rivers."}]
print(llama.chat(messages, max_new_tokens=48).text)

# %% [markdown]
# ## Many prompts at once
#
# The endpoint decodes as many rows together as its preset has. Calls beyond that wait for the next free row.

# %%
prompts = [f"{number} plus {number} is" for number in range(1, 9)]
for prompt, result in zip(prompts, llama.generate_many(prompts, max_new_tokens=8), strict=True):
    print(f"{prompt}:{result.text!r}")

# %% [markdown]
# ## When the pieces came

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 3))
axes.step(arrivals, range(1, len(arrivals) + 1), where="post", color="black")
axes.set(xlabel="seconds since the call", ylabel="pieces", title="One stream, on this machine's CPU")
figure.tight_layout()

# %% [markdown]
# ## Clean up
#
# The last line shows that nothing runs any more.

# %%
# !inf2kit local down {ENDPOINT}
# !inf2kit local status
