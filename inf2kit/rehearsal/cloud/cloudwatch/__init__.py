"""CloudWatch: metrics, alarms, metric math and logs of endpoints."""
