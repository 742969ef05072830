"""The rehearsal on one machine: the container's own model server as ordinary processes, without Docker.

endpoint ─► host ─┬─► front        sagemaker-runtime for boto3, with AWS's limits
 (up, down)       └─► container ─► gate, model server, workers, supervisor, engine
"""
