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
# # The three published tables, measured
#
# **Time:** 3 minutes for a throughput preset, 10 for the budget preset. **Cost:** nothing on this machine; on AWS what the endpoint
# costs meanwhile. **Needs:** `make setup`, or `pip install '.[local,bench]'`.
#
# Hugging Face published encoding time, end-to-end latency and throughput of five presets of Llama 2 in November 2023. This notebook
# measures the same cells in the same way, on any endpoint. Without an endpoint of your own it starts one on this machine that
# *simulates* the published times: that proves the protocol and the arithmetic, and nothing about a device.

# %% tags=["parameters"]
ENDPOINT = ""  # the name of an endpoint on AWS; empty: a simulated one on this machine
PRESET = "llama2-7b-throughput"
RUNS = 1  # calls for each cell

# %%
import os
import subprocess
import tempfile

import inf2kit

IS_LOCAL = not ENDPOINT
NAME = ENDPOINT or inf2kit.load_preset(PRESET).endpoint_name
RESULTS = os.path.join(tempfile.mkdtemp(), "tables")
if IS_LOCAL:
    subprocess.run(["inf2kit", "local", "up", PRESET, "--speed", "published"], check=True)

# %%
# !inf2kit bench tables {NAME} --preset {PRESET} --runs {RUNS} --output {RESULTS} --quiet > /dev/null

# %% [markdown]
# ## The tables, beside what was published

# %%
from pathlib import Path

from IPython.display import Image, Markdown, display

(tables,) = Path(RESULTS).glob("*.md")
display(Markdown(tables.read_text(encoding="utf-8")))

# %%
for chart in sorted(Path(RESULTS).glob("*.png")):
    display(Image(filename=str(chart), width=480))

# %% [markdown]
# ## Clean up

# %%
if IS_LOCAL:
    subprocess.run(["inf2kit", "local", "down", NAME], check=True)
# !inf2kit local status
