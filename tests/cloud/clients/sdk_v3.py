"""The SageMaker SDK v3 as a user has it; run by its own Python. Prints what it has found as JSON."""

import json
import sys

from sagemaker.core.resources import Endpoint

name = sys.argv[1]
endpoint = Endpoint.get(endpoint_name=name)
body = {"inputs": "Hello", "parameters": {"max_new_tokens": 3}}
answer = endpoint.invoke(body=json.dumps(body), content_type="application/json")
stream = endpoint.invoke_with_response_stream(
    body=json.dumps({**body, "stream": True}), content_type="application/json"
)
events = b"".join(part["PayloadPart"]["Bytes"] for part in stream.body)
endpoint.refresh()
try:
    endpoint.invoke(body=json.dumps({"inputs": ""}), content_type="application/json")
    refused = ""
except Exception as error:
    refused = str(error)
print(
    json.dumps(
        {
            "status": endpoint.endpoint_status,
            "variants": [variant.current_instance_count for variant in endpoint.production_variants],
            "answer": json.loads(answer.body.read()),
            "events": events.decode().count("data: "),
            "all": [each.endpoint_name for each in Endpoint.get_all()],
            "refused": refused,
        }
    )
)
