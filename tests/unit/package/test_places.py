"""Places as users write them: what is wrong with one is said before anything else happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from inf2kit.cli.commands import main
from inf2kit.errors import PackageError
from inf2kit.package import split_uri
from inf2kit.package.stores.places import BucketPlace, parse_bucket_place, parse_place

DIGEST = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("place", "bucket", "prefix"),
    [
        ("s3://models", "models", ""),
        ("s3://models/", "models", ""),
        ("s3://models/llm", "models", "llm/"),
        ("s3://models/llm/", "models", "llm/"),
        ("s3://my.bucket-1/a/b c/ü", "my.bucket-1", "a/b c/ü/"),
    ],
)
def test_buckets_are_read(place: str, bucket: str, prefix: str) -> None:
    assert parse_place(place) == BucketPlace(bucket, prefix)
    assert parse_bucket_place(place).uri == f"s3://{bucket}/{prefix}"


@pytest.mark.parametrize(
    "place", ["models", "./models", "/a/b", "~/models", "my models", "s3", "s3-models", "a:b"]
)
def test_folders_are_folders(place: str) -> None:
    assert parse_place(place) is None
    with pytest.raises(PackageError, match="is a folder of this machine; give s3://BUCKET/PREFIX"):
        parse_bucket_place(place)


WRONG = [
    (
        "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/ap/x",
        "is an access point, which SageMaker does not load",
    ),
    ("arn:aws:s3:us-east-1:123456789012:accesspoint/ap", "is an ARN; give a folder, or s3://BUCKET/PREFIX"),
    ("arn:aws:s3:::models/llm", "is an ARN; give a folder, or s3://BUCKET/PREFIX, here s3://models/llm"),
    ("s3://my bucket/x", "'my bucket' is no name of a bucket, which has 3 to 63 small letters"),
    ("s3://My-Bucket/x", "'My-Bucket' is no name of a bucket"),
    ("s3://my_bucket/x", "'my_bucket' is no name of a bucket"),
    ("s3://ab/x", "'ab' is no name of a bucket"),
    ("s3://-models/x", "'-models' is no name of a bucket"),
    ("s3://models./x", "'models.' is no name of a bucket"),
    ("s3://mo..dels/x", "'mo..dels' is no name of a bucket"),
    ("s3://192.168.0.1/x", "'192.168.0.1' is no name of a bucket"),
    ("s3://user@models/x", "'user@models' is no name of a bucket"),
    ("s3://models:443/x", "'models:443' is no name of a bucket"),
    (f"s3://{'m' * 64}/x", "is no name of a bucket"),
    ("s3://ap-0123456789-s3alias/x", "is an access point's alias; give a bucket"),
    ("s3://models--use1-az4--x-s3/x", "is a directory bucket of S3 Express"),
    ("s3://models/a//b", "the prefix 'a//b' has an empty part"),
    ("s3://models/../x", "the prefix '../x' has an empty part, or one of dots"),
    ("s3://models/x?versionId=3", "the prefix 'x?versionId=3' holds '?'; choose another"),
    ("s3://models/*", "the prefix '*' holds '*'"),
    (f"s3://models/{'x' * 701}", "the prefix has more than 700 bytes"),
    ("s3:/models/x", "is neither a folder nor a place in S3: is it s3://models/x?"),
    ("s3:models/x", "is it s3://models/x?"),
    ("s3///models", "is it s3://models?"),
    ("s3:///models/x", "is it s3://models/x?"),
    ("S3://models/x", "is it s3://models/x?"),
    ("s3//models/x", "is it s3://models/x?"),
    ("s3://", "names no bucket; give s3://BUCKET/PREFIX"),
    ("s3:", "is neither a folder nor a place in S3; give a folder, or s3://BUCKET/PREFIX"),
    ("s3://models/x ", "begins or ends with a space"),
    (" s3://models/x", "begins or ends with a space"),
    ("s3://models/x\n", "begins or ends with a space"),
    ("models\u200b", "holds a character that cannot be seen"),
    ("", "the place for packages is empty"),
    ("https://models.s3.eu-west-1.amazonaws.com/llm/", "is an address of the web; .*, here s3://models/llm"),
    ("https://s3.eu-west-1.amazonaws.com/models/llm", ", here s3://models/llm"),
    ("https://eu-west-1.console.aws.amazon.com/s3/buckets/models", "is an address of the web; give a folder"),
    ("http://example.com/x", "is an address of the web; give a folder, or s3://BUCKET/PREFIX"),
    ("file:///home/me/models", "is an address; give the folder itself: /home/me/models"),
    ("gs://bucket/x", "is no place for packages; give a folder, or s3://BUCKET/PREFIX"),
]


@pytest.mark.parametrize(("place", "sentence"), WRONG)
def test_a_place_that_is_neither_is_one_sentence(place: str, sentence: str) -> None:
    with pytest.raises(PackageError) as refused:
        parse_place(place)
    first, _, last = sentence.partition(".*")
    assert first in str(refused.value)
    assert last in str(refused.value)


@pytest.mark.parametrize(
    "command",
    [
        ["package", "nowhere", "--preset", "no-preset", "--output", "PLACE"],
        ["package", "nowhere", "--preset", "no-preset", "--output", "PLACE", "--dry-run"],
        ["compile", "no-preset", "--output", "PLACE"],
        ["compile", "no-preset", "--output", "PLACE", "--dry-run"],
        ["compile", "no-preset", "--output", "PLACE", "--job", "--role", "x"],
        ["packages", "list", "PLACE"],
        ["packages", "prune", "PLACE"],
        ["packages", "verify", f"PLACE/{DIGEST}"],
    ],
)
def test_every_command_refuses_it_before_anything_else(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # No credentials are asked for, and no network.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for place, sentence in (
        ("s3:/models/x", "is it s3://models/x"),
        ("s3://My Bucket", "is no name of a bucket"),
    ):
        result = CliRunner().invoke(main, [part.replace("PLACE", place) for part in command])
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith("Error: ")
        assert sentence in line
    assert list(tmp_path.iterdir()) == []


def test_a_package_may_be_named_by_its_manifest() -> None:
    assert split_uri(f"s3://models/llm/{DIGEST}/inf2kit.json") == ("s3://models/llm", DIGEST)
