"""SageMaker as its clients call it: one handler for each operation, and the container for each call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from inf2kit.rehearsal import validation
from inf2kit.rehearsal.cloud.clock import Clock
from inf2kit.rehearsal.cloud.errors import AwsError
from inf2kit.rehearsal.cloud.sagemaker.endpoint import Endpoint
from inf2kit.rehearsal.cloud.sagemaker.endpoints import Endpoints
from inf2kit.rehearsal.cloud.sagemaker.launcher import FleetContext
from inf2kit.rehearsal.cloud.sagemaker.models import EndpointConfigs, Models
from inf2kit.rehearsal.cloud.sagemaker.records import Request, Response, Tags
from inf2kit.rehearsal.runtime.containers import Target


class SageMaker:
    """Models, endpoint configurations and endpoints of one account and region.

    Args:
        account: The account of all resources.
        region: The region of all resources.
        context: What all fleets share.
        clock: Shortens AWS's deliberate waits.
        in_alarm: Returns those of the named alarms that are in ALARM.
        list_alarms: Lists the names of all alarms.
        list_targets: Lists the scalable targets, as ``endpoint/NAME/variant/NAME``.
        check_quota: Refuses instances, by type, that are to be added to those in use.
        on_stopped: Called with the name of an endpoint whose processes have ended, before it is gone.
    """

    def __init__(
        self,
        account: str,
        region: str,
        context: FleetContext,
        clock: Clock,
        *,
        in_alarm: Callable[[Sequence[str]], list[str]],
        list_alarms: Callable[[], set[str]],
        list_targets: Callable[[], set[str]],
        check_quota: Callable[[Mapping[str, int], Mapping[str, int]], None],
        on_stopped: Callable[[str], None],
    ) -> None:
        arn_prefix = f"arn:aws:sagemaker:{region}:{account}"
        self._tags = Tags()
        models = Models(arn_prefix, self._tags)
        configs = EndpointConfigs(arn_prefix, self._tags, models)
        self._endpoints = Endpoints(
            arn_prefix,
            self._tags,
            models,
            configs,
            context,
            clock,
            in_alarm=in_alarm,
            list_alarms=list_alarms,
            list_targets=list_targets,
            check_quota=check_quota,
            on_stopped=on_stopped,
        )
        self._arns: dict[str, Callable[[], set[str]]] = {
            "model": models.arns,
            "endpoint-config": configs.arns,
            "endpoint": lambda: {endpoint.arn for endpoint in self.endpoints.values()},
        }
        self._handlers: dict[str, Callable[[Request], Response]] = {
            "CreateModel": models.create,
            "DescribeModel": models.describe,
            "ListModels": models.list_page,
            "DeleteModel": models.delete,
            "CreateEndpointConfig": configs.create,
            "DescribeEndpointConfig": configs.describe,
            "ListEndpointConfigs": configs.list_page,
            "DeleteEndpointConfig": configs.delete,
            "CreateEndpoint": self._endpoints.create,
            "DescribeEndpoint": self._endpoints.describe,
            "ListEndpoints": self._endpoints.list_page,
            "UpdateEndpoint": self._endpoints.update,
            "UpdateEndpointWeightsAndCapacities": self._endpoints.update_weights_and_capacities,
            "DeleteEndpoint": self._endpoints.delete,
            "AddTags": self._add_tags,
            "ListTags": self._list_tags,
            "DeleteTags": self._delete_tags,
        }
        self._lock = threading.RLock()
        self._closed = False

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """The endpoints by name."""
        return self._endpoints.by_name

    def handles(self, operation: str) -> bool:
        """Whether an operation is answered here; moto answers the others."""
        return operation in self._handlers

    def call(self, operation: str, request: dict[str, Any]) -> Response:
        """Run one operation.

        Raises:
            AwsError: SageMaker would refuse the request.
        """
        if self._closed:
            raise AwsError("ServiceUnavailable", "The rehearsal cloud is being stopped.")
        faults = validation.find_faults("sagemaker", operation, request)
        if faults:
            raise AwsError("ValidationException", faults)
        with self._lock:
            return self._handlers[operation](request)

    def target(self, name: str, variant: str) -> Target | None:
        """Choose the container of the next call of an endpoint; None if there is no such endpoint."""
        endpoint = self.endpoints.get(name)
        if endpoint is None:
            return None
        if "AsyncInferenceConfig" in endpoint.config:
            return Target("", "asynchronous, to be called by InvokeEndpointAsync")
        variants = {fleet.variant for fleet in endpoint.fleets}
        if endpoint.takes_calls and variant and variant not in variants:
            # The endpoint is in service without this variant; the runtime refuses the call.
            return Target("", "InService", variant="")
        target = endpoint.pick(variant) if endpoint.takes_calls else None
        return target or Target("", "without an instance" if endpoint.takes_calls else endpoint.status)

    def close(self) -> None:
        """Refuse all further operations and stop every endpoint."""
        with self._lock:
            self._closed = True
        self._endpoints.close()

    def _add_tags(self, request: Request) -> Response:
        self._check_exists(request["ResourceArn"])
        self._tags.set_requested(request["ResourceArn"], request)
        return self._list_tags(request)

    def _list_tags(self, request: Request) -> Response:
        self._check_exists(request["ResourceArn"])
        return {"Tags": self._tags.get(request["ResourceArn"])}

    def _delete_tags(self, request: Request) -> Response:
        self._check_exists(request["ResourceArn"])
        self._tags.delete(request["ResourceArn"], request["TagKeys"])
        return {}

    def _check_exists(self, arn: str) -> None:
        """Check that an ARN is that of a resource; those of moto, such as jobs, are not known here."""
        kind, _, name = arn.rpartition(":")[2].partition("/")
        arns = self._arns.get(kind)
        if arns is not None and arn not in arns():
            raise AwsError("ValidationException", f'Could not find {kind} "{name}" ({arn}).')
