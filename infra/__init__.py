"""The CDK app: one stack per preset, each an endpoint with what it needs. ``app`` is what ``cdk`` runs."""
