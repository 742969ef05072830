"""CloudFormation: change sets, deployments with rollback, and the resources they make.

moto's own creates whatever a template names without an order it could undo, loses outputs, and is always
successful. Here a deployment is a journal that can be played backwards, and a resource is what its service
says of it.
"""
