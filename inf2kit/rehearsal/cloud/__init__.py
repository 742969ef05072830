"""The rehearsal cloud: the part of AWS that cdk, boto3 and the aws command line need, on one machine.

moto answers most of the control plane. This package extends it where moto lacks an operation or accepts more
than AWS does. Behind an endpoint runs the real model server. ``sagemaker`` holds the endpoints and
``cloudformation`` the stacks.
"""
