"""Everything that stands in for AWS on one machine. Nothing that ships or that talks to AWS imports it."""
