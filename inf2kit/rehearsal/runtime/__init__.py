"""SageMaker's runtime API, which boto3 calls ``sagemaker-runtime``, for local endpoints and the cloud."""
