"""The rehearsal cloud: what ``cdk deploy``, boto3 and the aws command line need of AWS, on one machine.

The control plane is moto's, extended here where it is missing or kinder than AWS; behind an endpoint runs the
real model server. ``hosting`` is SageMaker's endpoints, ``stacks`` is CloudFormation.
"""
