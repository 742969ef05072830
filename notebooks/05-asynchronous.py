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
# # Long texts: an asynchronous endpoint that scales to zero
#
# **Time:** 40 minutes on AWS, 2 in the rehearsal. **Cost:** what the preset's instance costs while it runs; nothing while it is scaled
# to zero. **Needs:** a package in S3 (`02-deploy-llama`), `make setup` in a clone.
#
# SageMaker ends a whole answer after 60 s. An asynchronous endpoint answers into S3, within an hour, and may have no instance while
# nobody calls. The outputs below are from a rehearsal on one machine; none of this has run on AWS yet.

# %% tags=["parameters"]
PRESET = "llama2-7b-budget"
PACKAGE = ""  # s3://BUCKET/models/DIGEST/
NEW_TOKENS = 1500

# %%
import os
import subprocess
from pathlib import Path

import inf2kit

folder = Path.cwd()
os.chdir(folder.parent if folder.name == "notebooks" else folder)  # where cdk.json is
STACK = f"inf2-{inf2kit.load_preset(PRESET).endpoint_name}"


def run(command: str) -> str:
    """Run a command, and stop the notebook if it fails."""
    result = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stdout + result.stderr)
    return result.stdout


# %%
run("cdk bootstrap")
options = f"-c package={PACKAGE} -c asynchronous=true -c min_instances=0 -c max_instances=1"
print(run(f"cdk deploy {STACK} {options} --require-approval never"))

# %% [markdown]
# ## Submit, ask, collect
#
# A job's id survives this notebook.

# %%
from inf2kit import Endpoint, Job

llama = Endpoint.from_preset(PRESET)
jobs = [llama.submit(f"Chapter {number}.", max_new_tokens=NEW_TOKENS) for number in range(1, 4)]
print(Job.statuses(jobs))

# %%
for job in jobs:
    result = Job.from_id(job.id).result(timeout=1800)
    print(f"{result.generated_tokens} tokens, {len(result.text)} characters, {result.finish_reason}")
print(Job.statuses(jobs))

# %% [markdown]
# ## Clean up
#
# Requests and answers stay in S3 until a lifecycle rule deletes them.

# %%
import boto3

print(run(f"cdk destroy --force {STACK} {options}"))
names = [each["EndpointName"] for each in boto3.client("sagemaker").list_endpoints()["Endpoints"]]
assert llama.name not in names, names
# !inf2kit cleanup --dry-run
