"""CloudWatch for endpoints: metrics, alarms, metric math, logs and metric filters."""
