"""Checks of this machine, an AWS account and the hub, before money is spent. They only read.

report = examine(Surroundings(preset=load_preset("llama2-7b-budget"), region="eu-west-1"))
for finding in report.findings:
    print(finding.status.mark, finding.check, finding.reason)
"""

from inf2kit.doctor.finding import Finding, Report, Status
from inf2kit.doctor.runner import examine
from inf2kit.doctor.surroundings import Surroundings

__all__ = ["Finding", "Report", "Status", "Surroundings", "examine"]
