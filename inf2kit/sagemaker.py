"""Deploy an endpoint with the SageMaker SDK, for those who do not use the CDK.

    import inf2kit.sagemaker

    deployment = inf2kit.sagemaker.deploy("llama2-7b-throughput", "s3://BUCKET/models/DIGEST/", role=ROLE)
    print(deployment.endpoint.generate("What is deep learning?", max_new_tokens=64).text)
    deployment.delete()

It asks SageMaker for the same Model, EndpointConfig and Endpoint as the stack does. The SDK has no alarms, no
roll-back, no scaling, no log with a retention and no role: those are the stack's.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from inf2kit import aws
from inf2kit.catalog.registry import image_uri
from inf2kit.client.endpoint import Endpoint
from inf2kit.deployment import DeployedPackage, EndpointProps
from inf2kit.deployment.owner import find_stack
from inf2kit.deployment.values import configuration_values, model_values, tags
from inf2kit.errors import DeploymentError, PresetError
from inf2kit.extras import install_command
from inf2kit.presets import Preset, load_preset

if TYPE_CHECKING:
    from types import ModuleType

#: The props that are values of a Model, an EndpointConfig or an Endpoint.
OPTIONS = frozenset(
    {
        "async_deadline_s",
        "async_output",
        "asynchronous",
        "data_capture_output",
        "data_capture_percent",
        "download_timeout_s",
        "endpoint_name",
        "environment",
        "instance_type",
        "kms_key_arn",
        "network_isolation",
        "security_group_ids",
        "startup_timeout_s",
        "subnet_ids",
        "volume_gb",
    }
)
#: Seconds for SageMaker to find an instance, beyond those for the download and the start.
_INSTANCE_S = 1800
#: Seconds between two looks at an endpoint's status.
_POLL_S = 5
#: The end of the name of a configuration that this module has created: its time.
_OWN_CONFIG = re.compile(r"-\d{8}-\d{6}$")
#: Letters of a name beside the time, of the 63 that SageMaker allows.
_PREFIX = 63 - len("-20261126-120000")


@dataclass(frozen=True)
class Deployment:
    """An endpoint with its model and its configuration.

    Attributes:
        name: The EndpointName.
        region_name: The AWS region.
        session: The ``boto3.session.Session`` that SageMaker is called with; None for the default one.
    """

    name: str
    region_name: str
    session: Any = None

    @classmethod
    def from_name(cls, name: str, *, region_name: str | None = None, session: Any = None) -> Deployment:
        """Return a deployment of an earlier process.

        Raises:
            DeploymentError: no region is configured, or there is no such endpoint.
        """
        deployment = cls(name, _region(region_name, session), session)
        deployment._describe()
        return deployment

    @property
    def endpoint(self) -> Endpoint:
        """The client that calls it."""
        if self.session is None:
            return Endpoint(self.name, region_name=self.region_name)
        return Endpoint(self.name, region_name=self.region_name, session=self.session)

    @property
    def status(self) -> str:
        """SageMaker's EndpointStatus, such as ``InService``."""
        return str(self._describe().endpoint_status)

    def update(
        self,
        preset: str | Preset,
        package: str | DeployedPackage,
        *,
        role: str = "",
        instances: int = 1,
        **options: Any,
    ) -> None:
        """Exchange the model for that of another package, and wait until it serves.

        SageMaker starts new instances first, so calls go on. The number of instances stays as it is. The
        arguments are those of ``deploy``.

        Raises:
            DeploymentError: an argument is wrong, the endpoint is a stack's, SageMaker refuses the update, or
                the new instances failed; the old ones then still serve.
        """
        props = _props(preset, package, instances, {**options, "endpoint_name": self.name})
        endpoint = self._describe()
        self._check_owner(endpoint)
        old_config = str(endpoint.endpoint_config_name)
        new_config = self._create_config(props, role)
        with _translate(f"updating the endpoint {self.name!r}"):
            endpoint.endpoint_config_name = new_config
            endpoint.update(retain_all_variant_properties=True)
            self._wait(endpoint, props)
        if str(endpoint.endpoint_config_name) != new_config:
            self._delete_config(new_config)
            raise DeploymentError(
                f"the update of {self.name!r} failed, and the old instances serve "
                f"({endpoint.failure_reason or 'see its log'}); correct the cause and update again"
            )
        self._delete_config(old_config)

    def delete(self) -> None:
        """Delete the endpoint, which ends its cost, then its configuration and its model.

        Raises:
            DeploymentError: the endpoint is a stack's, SageMaker refuses, or there is no such endpoint.
        """
        endpoint = self._describe()
        self._check_owner(endpoint)
        with _translate(f"deleting the endpoint {self.name!r}"):
            endpoint.delete()
            endpoint.wait_for_delete(poll=_POLL_S, timeout=_INSTANCE_S)
        self._delete_config(str(endpoint.endpoint_config_name))

    def _check_owner(self, endpoint: Any) -> None:
        """Refuse to change an endpoint of a CloudFormation stack, which would not notice.

        Who deploys with this module need not have rights in CloudFormation: it is asked only about
        endpoints whose configuration has no name of this module.
        """
        if _OWN_CONFIG.search(str(endpoint.endpoint_config_name)):
            return
        try:
            with aws.translate_errors(DeploymentError, "asking CloudFormation for its stack"):
                cloudformation = aws.client("cloudformation", self.region_name, session=self.session)
                stack = find_stack(cloudformation, str(endpoint.endpoint_arn))
        except DeploymentError as error:
            raise DeploymentError(
                f"the endpoint {self.name!r} was not created here, and may belong to a CloudFormation stack: "
                f"{error}. If it does, use 'cdk deploy' and 'cdk destroy'; if not, boto3's delete_endpoint"
            ) from None
        if stack:
            raise DeploymentError(
                f"the endpoint {self.name!r} belongs to the CloudFormation stack {stack}, which would not "
                f"notice; use 'cdk deploy {stack}' to update it, and 'cdk destroy {stack}' to delete it"
            )

    def _create(self, props: EndpointProps, role: str, *, wait: bool) -> None:
        config = self._create_config(props, role)
        with _translate(f"creating the endpoint {self.name!r}"):
            try:
                endpoint = _resources().Endpoint.create(
                    endpoint_name=self.name,
                    endpoint_config_name=config,
                    tags=_tags(props),
                    session=self.session,
                    region=self.region_name,
                )
            except Exception:
                self._delete_config(config)
                raise
            if wait:
                self._wait(endpoint, props)

    def _create_config(self, props: EndpointProps, role: str) -> str:
        """Create a model and a configuration of it, and return their name."""
        resources, place = _resources(), {"session": self.session, "region": self.region_name}
        name = f"{self.name[:_PREFIX].rstrip('-')}-{dt.datetime.now(dt.timezone.utc):%Y%m%d-%H%M%S}"
        role_arn = role or self._execution_role()
        uri = image_uri(self.region_name, DeploymentError)
        with _translate(f"creating the model {name!r}"):
            model = resources.Model.create(
                model_name=name, tags=_tags(props), **model_values(props, role_arn, uri), **place
            )
        with _translate(f"creating the endpoint configuration {name!r}"):
            try:
                resources.EndpointConfig.create(
                    endpoint_config_name=name, tags=_tags(props), **configuration_values(props, name), **place
                )
            except Exception:
                model.delete()
                raise
        return name

    def _delete_config(self, name: str) -> None:
        """Delete a configuration and the models of its variants."""
        with _translate(f"deleting the endpoint configuration {name!r}"):
            resources, place = _resources(), {"session": self.session, "region": self.region_name}
            config = resources.EndpointConfig.get(endpoint_config_name=name, **place)
            config.delete()
            for variant in config.production_variants:
                resources.Model.get(model_name=variant.model_name, **place).delete()

    def _wait(self, endpoint: Any, props: EndpointProps) -> None:
        limit_s = _INSTANCE_S + props.download_timeout_s + props.startup_timeout_s
        endpoint.wait_for_status("InService", poll=_POLL_S, timeout=limit_s)

    def _describe(self) -> Any:
        with _translate(f"looking for the endpoint {self.name!r}"):
            return _resources().Endpoint.get(
                endpoint_name=self.name, session=self.session, region=self.region_name
            )

    def _execution_role(self) -> str:
        """Return the role of the notebook or of the session's own credentials, as the SDK finds it."""
        from sagemaker.core.helper.session_helper import Session, get_execution_role

        try:
            session = self.session or aws.new_session(None, self.region_name)
            return str(get_execution_role(Session(boto_session=session)))
        except Exception as error:
            raise DeploymentError(
                f"no execution role is known here ({error}); give role=, a role that SageMaker may "
                "assume and that may read the package and pull the image"
            ) from None


def deploy(
    preset: str | Preset,
    package: str | DeployedPackage,
    *,
    role: str = "",
    instances: int = 1,
    wait: bool = True,
    region_name: str | None = None,
    session: Any = None,
    **options: Any,
) -> Deployment:
    """Create an endpoint that serves a preset, and wait until it is in service.

    Args:
        preset: The preset, or its name.
        package: The package in S3, or its ``s3://BUCKET/PREFIX/DIGEST/``.
        role: The ARN of the execution role. Default: that of the notebook, as the SDK finds it.
        instances: Number of instances.
        wait: Whether to wait; a model of 70 GB may take an hour.
        region_name: The AWS region, instead of the configured one.
        session: A ``boto3.session.Session`` with credentials and region of its own.
        **options: Those props of ``inf2kit.deployment.EndpointProps`` that ``OPTIONS`` lists, such as
            ``endpoint_name``, ``instance_type``, ``environment`` and ``asynchronous``.

    Raises:
        ImportError: the SageMaker SDK is missing, or its version is 2.
        DeploymentError: an argument is wrong, SageMaker refuses it, or the endpoint failed: what was created
            of it is then deleted by ``Deployment.from_name(name).delete()``.
    """
    _resources()
    props = _props(preset, package, instances, options)
    deployment = Deployment(props.endpoint_name, _region(region_name, session), session)
    deployment._create(props, role, wait=wait)
    return deployment


def _props(
    preset: str | Preset, package: str | DeployedPackage, instances: int, options: Mapping[str, Any]
) -> EndpointProps:
    if stack_only := sorted(set(options) - OPTIONS):
        raise DeploymentError(
            f"the SageMaker SDK has nothing for {', '.join(stack_only)}; the options are "
            f"{', '.join(sorted(OPTIONS))}, and 'cdk deploy' has all of them"
        )
    try:
        loaded = load_preset(preset) if isinstance(preset, str) else preset
    except PresetError as error:
        raise DeploymentError(str(error)) from None
    deployed = DeployedPackage.from_uri(package) if isinstance(package, str) else package
    return EndpointProps(
        preset=loaded, package=deployed, min_instances=instances, max_instances=instances, **options
    )


def _resources() -> ModuleType:
    """Import the SDK's resources.

    Raises:
        ImportError: the SDK is missing, or its version is 2.
    """
    try:
        from sagemaker.core import resources
    except ImportError as error:
        if find_spec("sagemaker") is not None and find_spec("sagemaker.session") is not None:
            raise ImportError(
                "inf2kit.sagemaker needs version 3 of the SageMaker SDK, and version 2 is installed; run: "
                f"{install_command('sagemaker')}",
                name="sagemaker",
            ) from None
        raise ImportError(
            f"inf2kit.sagemaker needs the SageMaker SDK ({error}); run: {install_command('sagemaker')}",
            name="sagemaker",
        ) from None
    # The SDK prints a line for each of its calls.
    logging.getLogger("sagemaker.core").setLevel(logging.WARNING)
    return resources  # type: ignore[no-any-return]


@contextmanager
def _translate(doing: str) -> Iterator[None]:
    """Raise DeploymentError in place of AWS's errors and the SDK's."""
    from sagemaker.core.utils.exceptions import SageMakerCoreError

    with aws.translate_errors(DeploymentError, doing):
        try:
            yield
        except SageMakerCoreError as error:
            raise DeploymentError(
                f"{doing} failed: {error}; the endpoint's log in CloudWatch has the container's own lines"
            ) from None


def _region(region_name: str | None, session: Any) -> str:
    region = region_name or (session or aws.new_session(None, None)).region_name
    if not region:
        raise DeploymentError("deploying needs a region; set AWS_REGION, or give region_name")
    return str(region)


def _tags(props: EndpointProps) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags(props).items()]
