"""``sagemaker-runtime`` for boto3: the data plane of local endpoints and of the rehearsal cloud."""
