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
# # Deploy Llama 2 on `ml.inf2`
#
# **Time:** an hour, most of it waiting: the compilation, and the model's way onto the device. **Cost:** about $0.91 an hour for the
# budget preset, $15.60 for the others, from the deployment to the last cell. **Needs:** an AWS account with a quota for the instance,
# a bucket, `make setup` in a clone.
#
# None of this has run on AWS yet. It is rehearsed: after `inf2kit cloud up` and `eval "$(inf2kit cloud env)"` the same cells run against
# this machine, without an account. The outputs below are from such a rehearsal.

# %% tags=["parameters"]
PRESET = "llama2-7b-throughput"
BUCKET = "your-bucket"  # in the region of the endpoint
MODEL = "meta-llama/Llama-2-7b-hf"  # on the hub; its licence must be accepted there
PACKAGE = ""  # s3://BUCKET/models/DIGEST/ of a package that exists already
ROLE = ""  # the role of the compilation job; empty: the role of this notebook

# %%
import os
from pathlib import Path

import inf2kit

folder = Path.cwd()
os.chdir(folder.parent if folder.name == "notebooks" else folder)  # where cdk.json is
NAME = inf2kit.load_preset(PRESET).endpoint_name
STACK = f"inf2-{NAME}"

# %% [markdown]
# ## What is in the way
#
# Quota, region, image, role, licence: what would fail later, and cost time or money, is said here.

# %%
# !inf2kit doctor {PRESET}

# %% [markdown]
# ## Compile, and package
#
# A SageMaker Processing job compiles the model for the static shapes of the preset, in the endpoint's own image, and writes the package.
# The next cell starts it only where `PACKAGE` is empty.

# %%
import subprocess


def run(command: str) -> str:
    """Run a command, and stop the notebook if it fails."""
    result = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stdout + result.stderr)
    return result.stdout


def execution_role() -> str:
    """Return the role of this notebook, or that of the environment where it is none of SageMaker."""
    try:
        from sagemaker.core.helper.session_helper import get_execution_role

        return get_execution_role()
    except Exception:
        return os.environ["SAGEMAKER_ROLE_ARN"]


if not PACKAGE:
    output = run(
        f"inf2kit compile {PRESET} --model {MODEL} --job --role {ROLE or execution_role()} --output s3://{BUCKET}/models"
    )
    PACKAGE = output.splitlines()[-1]
print(PACKAGE)

# %% [markdown]
# ## Deploy
#
# One stack: the endpoint with its role, alarms, roll-back, scaling and log.

# %%
run("cdk bootstrap")
print(run(f"cdk deploy {STACK} -c package={PACKAGE} --require-approval never"))

# %% [markdown]
# ## Call

# %%
from inf2kit import Endpoint

llama = Endpoint.from_preset(PRESET)
result = llama.generate("What is deep learning?", max_new_tokens=64)
print(result.text, result.finish_reason, result.generated_tokens)

# %%
for text in llama.stream("My favorite place on earth is", max_new_tokens=32):
    print(text, end="")

# %% [markdown]
# ## Watch
#
# The stack's alarms, and the end of the container's log.

# %%
import boto3

cloudwatch, logs = boto3.client("cloudwatch"), boto3.client("logs")
for alarm in cloudwatch.describe_alarms(AlarmNamePrefix=f"{NAME}-")["MetricAlarms"]:
    print(alarm["AlarmName"], alarm["StateValue"])
events = logs.filter_log_events(logGroupName=f"/aws/sagemaker/Endpoints/{NAME}")["events"]
for event in events[-5:]:
    print(event["message"].rstrip())

# %% [markdown]
# ## Clean up
#
# The endpoint goes first, which ends its cost. Then nothing of this notebook bills but the package's storage in S3.

# %%
print(run(f"cdk destroy --force {STACK}"))
names = [each["EndpointName"] for each in boto3.client("sagemaker").list_endpoints()["Endpoints"]]
assert NAME not in names, names
# !inf2kit cleanup --dry-run
