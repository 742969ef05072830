"""Log groups, topics and alarms."""

from __future__ import annotations

import json

from inf2kit.rehearsal.cloud.cloudformation.resources.base import Here, Made, Properties, Type, call
from inf2kit.rehearsal.cloud.cloudwatch.metric_filters import matcher
from inf2kit.rehearsal.cloud.errors import AwsError


class LogGroup(Type):
    name_property = "LogGroupName"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        tags = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}
        here.client("logs").create_log_group(logGroupName=name, tags=tags)
        arn = f"arn:aws:logs:{here.region}:{here.account}:log-group:{name}:*"
        return self.update(here, Made(name, {"Arn": arn}), {}, properties)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        logs, name = here.client("logs"), made.physical_id
        if "RetentionInDays" in new:
            logs.put_retention_policy(logGroupName=name, retentionInDays=int(new["RetentionInDays"]))
        elif "RetentionInDays" in old:
            logs.delete_retention_policy(logGroupName=name)
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("logs").delete_log_group(logGroupName=made.physical_id)


class MetricFilter(Type):
    name_property = "FilterName"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        pattern = str(properties["FilterPattern"])
        matcher(pattern)
        transformations = [
            {f"{key[0].lower()}{key[1:]}": value for key, value in each.items()}
            for each in properties["MetricTransformations"]
        ]
        if any("dimensions" in each for each in transformations):
            raise AwsError(
                "InvalidParameterException", "this rehearsal has metric filters without dimensions only"
            )
        request = {
            "filterName": name,
            "filterPattern": pattern,
            "logGroupName": properties["LogGroupName"],
            "metricTransformations": transformations,
        }
        call(here.client("logs"), "PutMetricFilter", request)
        return Made(name)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        # moto keeps both of one name.
        self.delete(here, made, old)
        return self.create(here, made.physical_id, new)

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("logs").delete_metric_filter(
            filterName=made.physical_id, logGroupName=properties["LogGroupName"]
        )


class Topic(Type):
    name_property = "TopicName"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        sns = here.client("sns")
        attributes = self._attributes(properties)
        tags = list(properties.get("Tags", []))
        arn = sns.create_topic(Name=name, Attributes=attributes, Tags=tags)["TopicArn"]
        return Made(arn, {"TopicArn": arn, "TopicName": name})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        for name, value in self._attributes(new).items():
            here.client("sns").set_topic_attributes(
                TopicArn=made.physical_id, AttributeName=name, AttributeValue=value
            )
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("sns").delete_topic(TopicArn=made.physical_id)

    @staticmethod
    def _attributes(properties: Properties) -> dict[str, str]:
        return {
            name: str(properties[name]) for name in ("DisplayName", "KmsMasterKeyId") if name in properties
        }


class TopicPolicy(Type):
    def create(self, here: Here, name: str, properties: Properties) -> Made:
        return self.update(here, Made(name, {"Id": name}), {}, properties)

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        for topic in new["Topics"]:
            here.client("sns").set_topic_attributes(
                TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(new["PolicyDocument"])
            )
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        """The topic goes with it."""


class Subscription(Type):
    def create(self, here: Here, name: str, properties: Properties) -> Made:
        request = {key: properties[key] for key in ("TopicArn", "Protocol", "Endpoint") if key in properties}
        arn = here.client("sns").subscribe(**request, ReturnSubscriptionArn=True)["SubscriptionArn"]
        return Made(arn, {"Arn": arn})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        return made

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("sns").unsubscribe(SubscriptionArn=made.physical_id)


class Alarm(Type):
    name_property = "AlarmName"

    def create(self, here: Here, name: str, properties: Properties) -> Made:
        if here.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]:
            raise AwsError("AlreadyExists", f"{name} already exists")
        return self._put(here, name, properties)

    @staticmethod
    def _put(here: Here, name: str, properties: Properties) -> Made:
        call(here.client("cloudwatch"), "PutMetricAlarm", {**properties, "AlarmName": name})
        return Made(name, {"Arn": f"arn:aws:cloudwatch:{here.region}:{here.account}:alarm:{name}"})

    def update(self, here: Here, made: Made, old: Properties, new: Properties) -> Made:
        return self._put(here, made.physical_id, new)

    def delete(self, here: Here, made: Made, properties: Properties) -> None:
        here.client("cloudwatch").delete_alarms(AlarmNames=[made.physical_id])
