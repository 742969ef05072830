"""The CDK app: one stack per preset, an endpoint with all it needs. ``cdk`` runs ``python -m infra``."""
