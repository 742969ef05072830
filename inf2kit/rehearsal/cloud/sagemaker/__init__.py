"""SageMaker's models, endpoint configurations and endpoints, with real model servers behind the endpoints."""
