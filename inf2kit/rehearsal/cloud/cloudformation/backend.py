"""The stacks and change sets of one account and region, in the place of moto's backend."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from moto.cloudformation import exceptions, models, urls, utils
from moto.cloudformation.models import CloudFormationBackend

from inf2kit.rehearsal.cloud.cloudformation import states
from inf2kit.rehearsal.cloud.cloudformation.change_sets import LiveChangeSet
from inf2kit.rehearsal.cloud.cloudformation.deployment import Deployment
from inf2kit.rehearsal.cloud.cloudformation.desired import DesiredStack, refused
from inf2kit.rehearsal.cloud.cloudformation.resources import Services
from inf2kit.rehearsal.cloud.cloudformation.stack import LiveStack


class Backend(CloudFormationBackend):
    """The stacks and change sets of one account and region.

    Attributes:
        client: Creates a boto3 client of a service and a region, which calls this cloud.
        undone: What a stack does when SageMaker has rolled an endpoint update back; see ``lifecycle.up``.
    """

    client: Callable[[str, str], Any]
    undone: str
    #: Held while a stack is looked up and created: two requests must not create two of one name.
    _creating = threading.Lock()

    @property
    def _url_module(self) -> Any:
        """moto's URLs, which moto would look for beside this class."""
        return urls

    def resolve(self, text: str, arguments: Mapping[str, str], *, rollback: bool = True) -> DesiredStack:
        """Parse a template and resolve its parameters.

        Args:
            text: The template.
            arguments: The parameters of the request.
            rollback: Whether a failure is rolled back.

        Raises:
            ValidationError: the template or a parameter is refused.
        """
        return DesiredStack.resolve(
            text,
            arguments,
            account=self.account_id,
            region=self.region_name,
            exports={name: export.value for name, export in self.exports.items()},
            rollback=rollback,
        )

    def find(self, name: str) -> LiveStack | None:
        """Find a stack by name or id; a deleted one by id only."""
        for stack in list(self.stacks.values()):
            if isinstance(stack, LiveStack) and name in (stack.name, stack.stack_id):
                return stack
        deleted = self.deleted_stacks.get(name)
        return deleted if isinstance(deleted, LiveStack) else None

    def get(self, name: str) -> LiveStack:
        """Return a stack by name or id.

        Raises:
            ValidationError: there is none.
        """
        stack = self.find(name)
        if stack is None:
            raise refused(f"Stack [{name}] does not exist")
        return stack

    def get_by_resource(self, physical_id: str) -> LiveStack:
        """Return the stack that has a resource of this physical id.

        Raises:
            ValidationError: no stack has one.
        """
        for stack in list(self.stacks.values()):
            if isinstance(stack, LiveStack) and physical_id in (
                resource.physical_resource_id for resource in stack.stack_resources
            ):
                return stack
        raise refused(f"Stack for {physical_id} does not exist")

    def create_live_change_set(
        self,
        stack_name: str,
        name: str,
        description: str,
        kind: str,
        desired: DesiredStack,
        tags: Mapping[str, str],
        role_arn: str,
    ) -> LiveChangeSet:
        """Create a change set, and for ``CREATE`` its stack in review."""
        utils.validate_create_change_set(name)
        with self._creating:
            stack = self.find(stack_name)
            if kind == "CREATE" and stack is None:
                stack = self._new_stack(stack_name)
                stack.set_status("REVIEW_IN_PROGRESS", "User Initiated")
            if stack is None:
                raise refused(f"Stack [{stack_name}] does not exist")
            states.check_change_set(stack, kind, name)
            if any(
                other.change_set_name == name and not other.is_done for other in self.change_sets_of(stack)
            ):
                raise exceptions.AlreadyExistsException(f"ChangeSet {name} already exists")
            change_set = LiveChangeSet(kind, stack, name, description, desired, tags, role_arn)
            stack.template = stack.version.template or desired.text
            # Added last: a template that is refused creates no stack.
            self.stacks[stack.stack_id] = stack
            self.change_sets[change_set.change_set_id] = change_set
            return change_set

    def get_change_set(self, name: str, stack_name: str | None) -> LiveChangeSet:
        """Return a change set by its id, or by its name and that of an existing stack.

        Raises:
            CloudFormationError: there is none.
        """
        for change_set in list(self.change_sets.values()):
            has_stack = stack_name in (None, change_set.stack_name, change_set.stack_id)
            has_name = name == change_set.change_set_name and change_set.stack_id in self.stacks
            is_match = name == change_set.change_set_id or (has_name and has_stack)
            if is_match and isinstance(change_set, LiveChangeSet):
                return change_set
        error = exceptions.CloudFormationError(f"ChangeSet [{name}] does not exist")
        error.code = "ChangeSetNotFound"
        raise error

    def change_sets_of(self, stack: LiveStack) -> list[LiveChangeSet]:
        """List the change sets of a stack."""
        return [
            change_set
            for change_set in list(self.change_sets.values())
            if isinstance(change_set, LiveChangeSet) and change_set.stack is stack
        ]

    def execute(self, change_set: LiveChangeSet, *, rollback: bool) -> None:
        """Start the deployment of a change set, and delete the stack's other change sets.

        Raises:
            CloudFormationError: the change set or its stack cannot be deployed now.
        """
        change_set.check_executable()
        stack = change_set.stack
        desired = change_set.desired
        if not rollback:
            desired = dataclasses.replace(desired, rollback=False)
        verb = "CREATE" if stack.status == "REVIEW_IN_PROGRESS" else "UPDATE"
        self.deploy(
            stack, desired, verb, change_set.tags or {}, change_set.role_arn or "", change_set=change_set
        )

    def create_live_stack(
        self, name: str, desired: DesiredStack, tags: Mapping[str, str], role_arn: str, *, protected: bool
    ) -> LiveStack:
        """Start the creation of a stack without a change set."""
        fault = desired.unsupported_types()
        with self._creating:
            if self.find(name):
                raise exceptions.AlreadyExistsException(f"Stack [{name}] already exists")
            if fault:
                raise refused(fault)
            stack = self._new_stack(name)
            stack.enable_termination_protection = protected
            self.stacks[stack.stack_id] = stack
        self.deploy(stack, desired, "CREATE", tags, role_arn)
        return stack

    def deploy(
        self,
        stack: LiveStack,
        desired: DesiredStack,
        verb: str,
        tags: Mapping[str, str] | None,
        role_arn: str,
        *,
        change_set: LiveChangeSet | None = None,
    ) -> None:
        """Start a deployment.

        Raises:
            ValidationError: the stack's state does not allow it.
        """
        with stack.lock:
            states.check_update(stack, rollback=desired.rollback)
            stack.set_status(f"{verb}_IN_PROGRESS", "User Initiated")
        if change_set:
            change_set.execution_status = "EXECUTE_IN_PROGRESS"
        # The others were computed for the stack as it was.
        self._forget_change_sets(stack, but=change_set)
        if tags is not None:
            stack.tags = dict(tags)
        stack.role_arn = role_arn or stack.role_arn
        # GetTemplate shows it of a stack whose creation failed, too.
        stack.template = stack.version.template or desired.text
        stack.description = desired.template.get("Description")
        names = {**desired.names, "AWS::StackName": stack.name, "AWS::StackId": stack.stack_id}
        desired = dataclasses.replace(desired, names=names)
        self._start(stack, lambda: self._deploy(stack, desired, verb, change_set))

    def roll_back(self, stack: LiveStack) -> None:
        """Start the rollback of a failed deployment that was left as it was.

        Raises:
            ValidationError: the stack's state does not allow it.
        """
        prefix = "UPDATE_ROLLBACK" if stack.version.template else "ROLLBACK"
        with stack.lock:
            states.check_rollback(stack)
            stack.set_status(f"{prefix}_IN_PROGRESS", "User Initiated")
        self._start(
            stack,
            lambda: self._guard(stack, prefix, lambda: self._deployment(stack).roll_back("User Initiated")),
        )

    def continue_rollback(self, stack: LiveStack, skipped: Collection[str], *, force: bool) -> None:
        """Go on with the rollback of an update that failed.

        Args:
            stack: The stack.
            skipped: The logical ids of resources that stay as they are.
            force: Leave as it is what cannot be restored.

        Raises:
            ValidationError: the stack's state does not allow it.
        """
        with stack.lock:
            states.check_continued_rollback(stack, skipped)
            stack.set_status("UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")

        def work() -> None:
            self._deployment(stack).roll_back("User Initiated", skipped, force=force)

        self._start(stack, lambda: self._guard(stack, "UPDATE_ROLLBACK", work))

    def delete_live_stack(self, name: str, *, retained: Collection[str], force: bool) -> None:
        """Start the deletion of a stack; deleting one that does not exist succeeds.

        Args:
            name: The stack's name or id.
            retained: The logical ids of resources that are left behind.
            force: Leave behind what cannot be deleted.

        Raises:
            ValidationError: the stack's state does not allow it.
        """
        stack = self.find(name)
        if stack is None or stack.status in ("DELETE_COMPLETE", "DELETE_IN_PROGRESS"):
            return
        with stack.lock:
            states.check_deletion(stack, retained=retained, force=force)
            previous = stack.worker
            stack.cancelled.set()
            stack.set_status("DELETE_IN_PROGRESS", "User Initiated")
        self._start(stack, lambda: self._delete(stack, previous, retained, force=force))

    def _new_stack(self, name: str) -> LiveStack:
        stack_id = utils.generate_stack_id(name, self.region_name, self.account_id)
        return LiveStack(stack_id, name, self.account_id, self.region_name)

    def _deploy(
        self, stack: LiveStack, desired: DesiredStack, verb: str, change_set: LiveChangeSet | None
    ) -> None:
        prefix = "ROLLBACK" if verb == "CREATE" else "UPDATE_ROLLBACK"
        self._guard(stack, prefix, lambda: self._deployment(stack).run(desired, verb))
        self._forget_exports(stack)
        for output in stack.version.outputs:
            if output["ExportName"]:
                name, value = output["ExportName"], output["OutputValue"]
                self.exports[name] = models.Export(stack.stack_id, name, value)
        if change_set:
            is_done = stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
            change_set.execution_status = "EXECUTE_COMPLETE" if is_done else "EXECUTE_FAILED"
        if stack.status == "ROLLBACK_COMPLETE" and desired.delete_failed:
            self.delete_live_stack(stack.stack_id, retained=(), force=False)

    def _delete(
        self,
        stack: LiveStack,
        previous: threading.Thread | None,
        retained: Collection[str],
        *,
        force: bool,
    ) -> None:
        if previous:
            previous.join()
        self._guard(stack, "DELETE", lambda: self._deployment(stack).delete(retained, force=force))
        if stack.status == "DELETE_COMPLETE":
            self._forget_exports(stack)
            # The next stack of this name may have change sets of the same names.
            self._forget_change_sets(stack)
            self.deleted_stacks[stack.stack_id] = stack
            self.stacks.pop(stack.stack_id, None)

    def _forget_exports(self, stack: LiveStack) -> None:
        for name, export in list(self.exports.items()):
            if export.exporting_stack_id == stack.stack_id:
                del self.exports[name]

    def _forget_change_sets(self, stack: LiveStack, but: LiveChangeSet | None = None) -> None:
        for change_set in self.change_sets_of(stack):
            if change_set is not but:
                self.change_sets.pop(change_set.change_set_id, None)

    @staticmethod
    def _guard(stack: LiveStack, prefix: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            # Any error must end the change: clients wait for the stack to settle.
            stack.set_status(
                f"{prefix}_FAILED", f"the rehearsal itself failed: {type(error).__name__}: {error}"
            )

    def _deployment(self, stack: LiveStack) -> Deployment:
        clients: dict[str, Any] = {}

        def client(service: str) -> Any:
            if service not in clients:
                clients[service] = Backend.client(service, self.region_name)
            return clients[service]

        def exporter(name: str) -> str:
            export = self.exports.get(name)
            return str(export.exporting_stack_id) if export else ""

        services = Services(self.account_id, self.region_name, client, Backend.undone)
        return Deployment(stack, services, exporter)

    @staticmethod
    def _start(stack: LiveStack, work: Callable[[], None]) -> None:
        stack.worker = threading.Thread(target=work, daemon=True, name=f"stack {stack.name}")
        stack.worker.start()
