"""The CDK app: a stack for each preset, from the constructs in ``inf2kit.cdk``.

``cdk`` runs it as ``python -m infra``. To combine an endpoint with stacks of your own, write your own app
with ``inf2kit.cdk``; it needs nothing from this folder.
"""
