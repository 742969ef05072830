"""Local endpoints: one container behind one runtime, without an account and without CloudFormation."""
