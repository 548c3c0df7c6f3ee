"""Clouds: what the environment says of networks and buckets, in GDAL's words and in obstore's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rasterio.env import getenv, hasenv

if TYPE_CHECKING:
    from collections.abc import Mapping

# What GDAL is told where a file lies on a network; what the environment says goes before.
NETWORK = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # what lies beside a raster is none of its business
    "GDAL_INGESTED_BYTES_AT_OPEN": "524288",  # all that a file has to say of its blocks, at once
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    # A connection over which nothing comes for half a minute is lost.
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
}
# The same thing by GDAL's name and by obstore's: who sets the one means the other.
SAME = {
    "s3": {"AWS_NO_SIGN_REQUEST": "AWS_SKIP_SIGNATURE"},
    "gs": {"GS_NO_SIGN_REQUEST": "GOOGLE_SKIP_SIGNATURE"},
    "az": {
        "AZURE_NO_SIGN_REQUEST": "AZURE_SKIP_SIGNATURE",
        "AZURE_STORAGE_ACCOUNT": "AZURE_STORAGE_ACCOUNT_NAME",
        "AZURE_STORAGE_ACCESS_KEY": "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_SAS_TOKEN": "AZURE_STORAGE_SAS_KEY",
    },
}
# What to do where something may not be read.
CREDENTIALS = {
    "http": "Ask its publisher for an address that may be read.",
    "https": "Ask its publisher for an address that may be read.",
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_NO_SIGN_REQUEST=YES where the bucket is public.",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS, or GS_NO_SIGN_REQUEST=YES where the bucket is public.",
    "az": "Set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_ACCESS_KEY or AZURE_STORAGE_SAS_TOKEN, or "
    "AZURE_NO_SIGN_REQUEST=YES where the container is public.",
}
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def gdal_settings(scheme: str) -> dict[str, str]:
    """Return the configuration of GDAL for files of a kind of network: what is set elsewhere stays as it is.

    Args:
        scheme: ``https``, ``http``, ``s3``, ``gs`` or ``az``.
    """
    told = {gdal: os.environ[ours] for gdal, ours in SAME.get(scheme, {}).items() if ours in os.environ}
    wanted = NETWORK | told | (_gdal_endpoint(os.environ) if scheme == "s3" else {})
    around = getenv() if hasenv() else {}
    return {name: value for name, value in wanted.items() if name not in os.environ and name not in around}


def store_settings(scheme: str, bucket: str) -> dict[str, str]:
    """Return the configuration of obstore's store of a bucket, beside what obstore finds in the environment itself.

    Args:
        scheme: ``s3``, ``gs`` or ``az``.
        bucket: Its name.
    """
    # Its own names too: without the account among them obstore's store of an Azure container cannot be printed.
    found = {ours: os.environ.get(ours, os.environ.get(gdal)) for gdal, ours in SAME[scheme].items()}
    told = {ours: value for ours, value in found.items() if value is not None}
    return told | (_store_endpoint(os.environ, bucket) if scheme == "s3" else {})


def _gdal_endpoint(told: Mapping[str, str]) -> dict[str, str]:
    """Return in GDAL's words where a server of S3 is that is not Amazon's."""
    url = next((told[name] for name in ENDPOINTS if told.get(name)), None)
    if url is None or "AWS_S3_ENDPOINT" in told:
        return {}
    scheme, _, host = url.rstrip("/").rpartition("://")
    return {"AWS_S3_ENDPOINT": host, "AWS_HTTPS": "NO" if scheme == "http" else "YES", "AWS_VIRTUAL_HOSTING": "NO"}


def _store_endpoint(told: Mapping[str, str], bucket: str) -> dict[str, str]:
    """Return the same in obstore's words."""
    host = told.get("AWS_S3_ENDPOINT")
    if not host or any(told.get(name) for name in ENDPOINTS):
        return {}
    scheme = "https" if _is_on(told.get("AWS_HTTPS", "YES")) else "http"
    if not _is_on(told.get("AWS_VIRTUAL_HOSTING", "YES")):
        return {"AWS_ENDPOINT": f"{scheme}://{host}"}
    return {"AWS_ENDPOINT": f"{scheme}://{bucket}.{host}", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"}


def _is_on(value: str) -> bool:
    """Return whether a setting of GDAL is on."""
    return value.upper() not in {"NO", "FALSE", "OFF", "0"}
