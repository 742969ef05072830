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
# # Plan capacity and cost
#
# **Time:** a minute. **Cost:** nothing; nothing is called. **Needs:** `pip install '.[bench]'` for the chart.
#
# How many instances does a demand need, what do they cost, and what breaks first? The scheduler is simulated, with the times that you
# have measured (`inf2kit bench load ENDPOINT --calibrate`), or with published ones. The plan says which, and the error to expect.

# %% tags=["parameters"]
PRESET = "llama2-7b-throughput"
RATE = 2.0  # calls a second
INPUT, NEW = "256", "128~40"  # tokens of a call: mean~deviation
SLO = "ttft=2,latency=10"  # seconds that 19 of 20 calls must meet

# %%
# !inf2kit plan {PRESET} --rate {RATE} --input-tokens {INPUT} --new-tokens {NEW} --slo {SLO}

# %% [markdown]
# ## Latency against load

# %%
import tempfile
from pathlib import Path

from IPython.display import Image

chart = Path(tempfile.mkdtemp()) / "plan"
# !inf2kit plan {PRESET} --rate {RATE} --input-tokens {INPUT} --new-tokens {NEW} --slo {SLO} --chart {chart} > /dev/null
Image(filename=str(next(chart.parent.glob("*.png"))), width=640)

# %% [markdown]
# ## The same as JSON
#
# The values for `cdk deploy` can be read from it.

# %%
import json
import subprocess

command = f"inf2kit plan {PRESET} --rate {RATE} --input-tokens {INPUT} --new-tokens {NEW} --slo {SLO} --json"
plan = json.loads(subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout)
print(*plan, sep="\n")

# %% [markdown]
# Nothing was started, so there is nothing to clean up.
