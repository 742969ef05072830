"""CloudFormation: change sets, deployments with rollback, and resources created by their services' APIs.

Plain moto creates resources in an order that it cannot undo, loses outputs, and never fails a stack. Here a
deployment keeps a journal that is undone in reverse, and a resource succeeds only if its service says so.
"""
