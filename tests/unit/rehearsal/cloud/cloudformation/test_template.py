"""Parsing templates, and the order of their resources."""

from __future__ import annotations

import json

import pytest

from inf2kit.rehearsal.cloud.cloudformation.template import creation_order, parse
from inf2kit.rehearsal.cloud.errors import AwsError

YAML = """
AWSTemplateFormatVersion: 2010-09-09
Conditions:
  Test: !Not [!Condition Live]
Mappings:
  Accounts:
    123456789012: {size: 012}
Resources:
  R:
    Date: 2012-10-17
    Truth: yes
    GetAtt: [!GetAtt A.B.C, !GetAtt [A, B]]
    Sub: [!Sub "${A}-${B.C}", !Sub ["${x}", {x: !Ref A}]]
    Join: !Join ["-", [2012-10-17, !Select [5, !Split [":", !Ref Topic]]]]
"""


def test_yaml_with_short_forms() -> None:
    body = parse(YAML)
    assert body["AWSTemplateFormatVersion"] == "2010-09-09"
    assert body["Conditions"]["Test"] == {"Fn::Not": [{"Condition": "Live"}]}
    assert body["Mappings"] == {"Accounts": {"123456789012": {"size": 10}}}, "every key is text"
    assert body["Resources"]["R"] == {
        "Date": "2012-10-17",
        "Truth": True,
        "GetAtt": [{"Fn::GetAtt": ["A", "B.C"]}, {"Fn::GetAtt": ["A", "B"]}],
        "Sub": [{"Fn::Sub": "${A}-${B.C}"}, {"Fn::Sub": ["${x}", {"x": {"Ref": "A"}}]}],
        "Join": {
            "Fn::Join": ["-", ["2012-10-17", {"Fn::Select": [5, {"Fn::Split": [":", {"Ref": "Topic"}]}]}]]
        },
    }
    assert parse(json.dumps(body)) == body


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: 1\na: 2\n", "Duplicate found 'a'"), ("a: [", "did not find expected node content")],
)
def test_what_is_no_template_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_each_resource_is_created_after_its_dependencies() -> None:
    resources = {
        "A": {"Properties": {"B": {"Fn::Sub": "${B.Arn}/${AWS::Region}"}}},
        "B": {"DependsOn": "C", "Properties": {"Size": {"Ref": "AParameter"}}},
        "C": {"Properties": {"D": [{"Fn::GetAtt": ["D", "Arn"]}]}},
        "D": {},
    }
    assert creation_order(resources) == ["D", "C", "B", "A"]
    with pytest.raises(AwsError, match=r"Circular dependency between resources: \[\w, \w, \w, \w\]"):
        creation_order({**resources, "D": {"DependsOn": ["A"]}})
