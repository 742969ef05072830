"""Local endpoints: one container and SageMaker's runtime API for it, without an account or CloudFormation."""
