"""Versions of stored objects: ``python -m dagster_deploy.production.objects protect | restore URL --at MOMENT``.

`protect` turns versions on in the buckets of `CQOX_WAREHOUSE` and `CQOX_REPORTS` and lets replaced versions go after 30
days. `restore` puts everything below a URL back to what it was at a moment: what was changed or removed since is copied
from its version, what was added since is removed. Both leave versions behind, so a restore can be taken back.
"""

import argparse
import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

KEEP_DAYS = 30
_RULES = {"Rules": [{
    "ID": "cqox-replaced-versions", "Status": "Enabled", "Filter": {"Prefix": ""},
    "NoncurrentVersionExpiration": {"NoncurrentDays": KEEP_DAYS},
    "Expiration": {"ExpiredObjectDeleteMarker": True},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
}]}  # fmt: skip


def client() -> Any:
    """Return a client of the object store that the AWS_ variables name."""
    from botocore.session import get_session

    return get_session().create_client("s3", region_name=os.environ.get("AWS_DEFAULT_REGION") or "us-east-1")


def split(url: str) -> tuple[str, str]:
    """Return bucket and prefix of a URL."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise SystemExit(f"found '{url}'; expected s3://bucket/prefix: only an object store keeps versions")
    return parts.netloc, parts.path.strip("/")


def protect(store: Any, buckets: set[str]) -> None:
    """Keep what is replaced or removed in these buckets for 30 days."""
    for bucket in sorted(buckets):
        store.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        store.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=_RULES)


def restore(store: Any, url: str, moment: datetime) -> tuple[int, int]:
    """Put everything below a URL back to a moment; return how many objects were put back and removed."""
    bucket, prefix = split(url)
    put_back = removed = 0
    for key, versions in _by_key(store, bucket, prefix):
        then = next((version for version in versions if version["LastModified"] <= moment), None)
        latest = versions[0]
        existed = then is not None and "ETag" in then
        if then is latest or (not existed and "ETag" not in latest):
            continue
        if existed and then is not None:
            source = {"Bucket": bucket, "Key": key, "VersionId": then["VersionId"]}
            store.copy_object(Bucket=bucket, Key=key, CopySource=source)
            put_back += 1
        else:
            store.delete_object(Bucket=bucket, Key=key)
            removed += 1
    return put_back, removed


def _by_key(store: Any, bucket: str, prefix: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield each key with its versions and delete markers, newest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    pages = store.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=f"{prefix}/" if prefix else "")
    for page in pages:
        for version in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            found.setdefault(version["Key"], []).append(version)
    for key, versions in sorted(found.items()):
        yield key, sorted(versions, key=lambda version: (version["LastModified"], version["IsLatest"]), reverse=True)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m dagster_deploy.production.objects", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("protect", help="keep replaced and removed objects for 30 days")
    back = commands.add_parser("restore", help="put everything below a URL back to a moment")
    back.add_argument("url", help="s3://bucket/prefix")
    back.add_argument("--at", type=datetime.fromisoformat, required=True, help="a moment with its zone")
    options = parser.parse_args()
    if options.command == "protect":
        buckets = {split(os.environ.get(name) or "")[0] for name in ("CQOX_WAREHOUSE", "CQOX_REPORTS")}
        protect(client(), buckets)
        print(f"versions are kept for {KEEP_DAYS} days in {', '.join(sorted(buckets))}")
        return
    if options.at.tzinfo is None:
        parser.error(f"--at: found '{options.at}'; expected a moment with its zone: 2026-01-31T14:00:00+00:00")
    put_back, removed = restore(client(), options.url, options.at)
    print(f"put back {put_back} objects, removed {removed} that came later")


if __name__ == "__main__":
    main()
