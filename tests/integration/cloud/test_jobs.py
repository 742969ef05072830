"""Asynchronous calls by inf2kit's own client against the rehearsal cloud, found by the stack's parameter."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import inf2kit
from inf2kit import Endpoint, Job, JobError, TextResult
from inf2kit.client.published import PublishedEndpoint
from inf2kit.rehearsal.cloud.settings import CloudSettings
from tests.helpers.sagemaker import ResourceMaker
from tests.helpers.servers import PATIENCE_S


def test_jobs_are_answered_and_fail_in_s3(
    cloud: CloudSettings, maker: ResourceMaker, aws: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    maker.create_model("jobs")
    output = {"S3OutputPath": "s3://models/jobs/answers/", "S3FailurePath": "s3://models/jobs/failures/"}
    maker.create_config("jobs", "jobs", asynchronous={"OutputConfig": output})
    maker.create_endpoint("jobs", "jobs")
    assert maker.wait_until_settled("jobs")["EndpointStatus"] == "InService"
    published = PublishedEndpoint(
        endpoint_name="jobs",
        preset="jobs",
        asynchronous=True,
        async_input="s3://models/jobs/requests/",
        async_invocation_timeout_s=900,
    )
    aws("ssm").put_parameter(Name="/inf2kit/presets/jobs", Type="String", Value=published.to_json())
    endpoint = Endpoint.from_preset("jobs")
    single = endpoint.submit("Hello", max_new_tokens=4)
    several = endpoint.submit(["Hello", "Goodbye"], max_new_tokens=4)
    wrong = endpoint.submit("Hello", top_p=2)
    large = endpoint.submit("x" * 200_000, max_new_tokens=4)
    response = aws("sagemaker-runtime").invoke_endpoint_async(
        EndpointName="jobs", Body=b'{"inputs": "Hello", "parameters": {"max_new_tokens": 1}}'
    )
    assert response["ResponseMetadata"]["RequestId"]
    result = Job.from_id(single.id).result(timeout=PATIENCE_S)
    assert isinstance(result, TextResult)
    assert result.generated_tokens == 4
    results = several.result(timeout=PATIENCE_S)
    assert isinstance(results, list)
    assert [each.generated_tokens for each in results] == [4, 4]
    for job, sentence in ((wrong, "top_p"), (large, "answered")):
        with pytest.raises(JobError, match=sentence) as failed:
            job.result(timeout=PATIENCE_S)
        assert failed.value.status in (413, 422)
    assert Job.statuses([single, several, wrong, large]) == ["done", "done", "failed", "failed"]
    page = (Path(inf2kit.__file__).parents[1] / "docs" / "client.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"^```python asynchronous\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    code = snippet.replace("llama2-7b-budget", "jobs").replace("1500", "20")
    exec(compile(code, "docs/client.md", "exec"), {"Endpoint": Endpoint})  # noqa: S102
    assert len(capsys.readouterr().out.splitlines()) >= 2
