"""Log groups, metric filters, topics and alarms."""

from __future__ import annotations

import json

from inf2kit.rehearsal.cloud.cloudformation.resources.handler import (
    PhysicalResource,
    Properties,
    ResourceHandler,
    Services,
    call,
    check_found,
)
from inf2kit.rehearsal.cloud.cloudwatch.metric_filters import compile_pattern
from inf2kit.rehearsal.cloud.errors import AwsError


class LogGroup(ResourceHandler):
    name_property = "LogGroupName"

    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        tags = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}
        services.client("logs").create_log_group(logGroupName=name, tags=tags)
        arn = f"arn:aws:logs:{services.region}:{services.account}:log-group:{name}:*"
        return self.update(services, PhysicalResource(name, {"Arn": arn}), {}, properties)

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        logs, name = services.client("logs"), resource.id
        groups = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        check_found("log group", name, [group["logGroupName"] for group in groups])
        if "RetentionInDays" in new:
            logs.put_retention_policy(logGroupName=name, retentionInDays=int(new["RetentionInDays"]))
        elif "RetentionInDays" in old:
            logs.delete_retention_policy(logGroupName=name)
        return resource

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        services.client("logs").delete_log_group(logGroupName=resource.id)


class MetricFilter(ResourceHandler):
    name_property = "FilterName"

    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        pattern = str(properties["FilterPattern"])
        # A pattern that is not simulated is refused here.
        compile_pattern(pattern)
        transformations = [
            {f"{key[0].lower()}{key[1:]}": value for key, value in transformation.items()}
            for transformation in properties["MetricTransformations"]
        ]
        if any("dimensions" in transformation for transformation in transformations):
            raise AwsError(
                "InvalidParameterException", "this rehearsal has metric filters without dimensions only"
            )
        request = {
            "filterName": name,
            "filterPattern": pattern,
            "logGroupName": properties["LogGroupName"],
            "metricTransformations": transformations,
        }
        call(services.client("logs"), "PutMetricFilter", request)
        return PhysicalResource(name)

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        filters = services.client("logs").describe_metric_filters(logGroupName=old["LogGroupName"])
        check_found("metric filter", resource.id, [each["filterName"] for each in filters["metricFilters"]])
        # moto would keep both filters of the same name.
        self.delete(services, resource, old)
        return self.create(services, resource.id, new)

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        services.client("logs").delete_metric_filter(
            filterName=resource.id, logGroupName=properties["LogGroupName"]
        )


class Topic(ResourceHandler):
    name_property = "TopicName"

    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        sns = services.client("sns")
        attributes = self._attributes(properties)
        tags = list(properties.get("Tags", []))
        arn = sns.create_topic(Name=name, Attributes=attributes, Tags=tags)["TopicArn"]
        return PhysicalResource(arn, {"TopicArn": arn, "TopicName": name})

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        for name, value in self._attributes(new).items():
            services.client("sns").set_topic_attributes(
                TopicArn=resource.id, AttributeName=name, AttributeValue=value
            )
        return resource

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        services.client("sns").delete_topic(TopicArn=resource.id)

    @staticmethod
    def _attributes(properties: Properties) -> dict[str, str]:
        return {
            name: str(properties[name]) for name in ("DisplayName", "KmsMasterKeyId") if name in properties
        }


class TopicPolicy(ResourceHandler):
    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        return self.update(services, PhysicalResource(name, {"Id": name}), {}, properties)

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        for topic in new["Topics"]:
            services.client("sns").set_topic_attributes(
                TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(new["PolicyDocument"])
            )
        return resource

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        """The policy is deleted with its topic."""


class Subscription(ResourceHandler):
    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        request = {key: properties[key] for key in ("TopicArn", "Protocol", "Endpoint") if key in properties}
        arn = services.client("sns").subscribe(**request, ReturnSubscriptionArn=True)["SubscriptionArn"]
        return PhysicalResource(arn, {"Arn": arn})

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        return resource

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        services.client("sns").unsubscribe(SubscriptionArn=resource.id)


class Alarm(ResourceHandler):
    name_property = "AlarmName"

    def create(self, services: Services, name: str, properties: Properties) -> PhysicalResource:
        if services.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]:
            raise AwsError("AlreadyExists", f"{name} already exists")
        return self._put(services, name, properties)

    @staticmethod
    def _put(services: Services, name: str, properties: Properties) -> PhysicalResource:
        call(services.client("cloudwatch"), "PutMetricAlarm", {**properties, "AlarmName": name})
        return PhysicalResource(
            name, {"Arn": f"arn:aws:cloudwatch:{services.region}:{services.account}:alarm:{name}"}
        )

    def update(
        self, services: Services, resource: PhysicalResource, old: Properties, new: Properties
    ) -> PhysicalResource:
        alarms = services.client("cloudwatch").describe_alarms(AlarmNames=[resource.id])["MetricAlarms"]
        check_found("alarm", resource.id, [alarm["AlarmName"] for alarm in alarms])
        return self._put(services, resource.id, new)

    def delete(self, services: Services, resource: PhysicalResource, properties: Properties) -> None:
        services.client("cloudwatch").delete_alarms(AlarmNames=[resource.id])
