"""S3 as `features.stores` has it: how long a request may take, how often it is tried, and pages of a long listing.

Credentials, region and endpoint come from where AWS's own tools take them; none is ever part of an address.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import BotoCoreError
from fsspec.asyn import sync
from s3fs import S3File, S3FileSystem
from s3fs.core import S3_RETRYABLE_ERRORS

from features.errors import first_line
from features.sources.files import MOST_BYTES

BODIES = 4
"""How often an object is asked for whose bytes stop on their way; botocore tries again what has no answer."""


class Store(S3FileSystem):  # type: ignore[misc]
    """s3fs without its caches, which would hide what others write; all that goes wrong is an OSError with a place."""

    connect_timeout, read_timeout = 10, 30  # seconds
    deadline = 300  # of a request with all its tries: who waits to send a body has no time-out else
    attempts = 5
    retries = 1  # botocore's alone, with its back-off: the two would multiply

    def __init__(self, **options: Any) -> None:
        retries = {"mode": "standard", "total_max_attempts": self.attempts}
        config = {"retries": retries, "max_pool_connections": 64}
        super().__init__(**{"use_listings_cache": False, "config_kwargs": config, **options})

    async def _call_s3(self, method: str, *options: Any, **told: Any) -> Any:
        try:
            async with asyncio.timeout(self.deadline):
                return await super()._call_s3(method, *options, **told)
        except (OSError, BotoCoreError) as error:
            number = next((number for kind, number in _NUMBERS.items() if isinstance(error, kind)), errno.EIO)
            place = f"s3://{told.get('Bucket', '')}/{told.get('Key', told.get('Prefix', ''))}"
            raise OSError(number, getattr(error, "strerror", None) or first_line(error), place) from error

    async def _cat_file(self, path: str, version_id: Any = None, start: Any = None, end: Any = None, **_: Any) -> bytes:
        """The object, or bytes from `start` to before `end` of it, by one GET: s3fs sends a HEAD before."""
        bucket, key, _ = self.split_path(path)
        part = {} if start is None and end is None else {"Range": await self._process_limits(path, start, end)}
        for left in reversed(range(BODIES)):
            answer = await self._call_s3("get_object", Bucket=bucket, Key=key, **part)
            try:
                if not part and answer["ContentLength"] > MOST_BYTES:
                    raise OSError(errno.EFBIG, f"{answer['ContentLength']:,} bytes: no image is so large", path)
                return bytes(await answer["Body"].read())
            except (*S3_RETRYABLE_ERRORS, BotoCoreError) as error:
                if not left:
                    raise OSError(errno.EIO, f"its bytes stop on their way ({first_line(error)})", path) from error
            finally:
                answer["Body"].close()
        raise AssertionError  # the last try returns or raises

    async def _isdir(self, path: str) -> bool:
        """Whether anything is below `path`, by one key of it: s3fs would list them all."""
        try:
            return bool((await self._info(path))["type"] == "directory")
        except FileNotFoundError:
            return False

    def _open(self, path: str, mode: str = "rb", **options: Any) -> S3File:
        return super()._open(path, mode, **options) if mode != "rb" else _File(self, path, **options)

    def pages(self, path: str) -> Iterator[list[tuple[str, int, str]]]:
        """Key below `path`, bytes and ETag of all that is there, in the order of the keys, a thousand at a time."""
        bucket, key, _ = self.split_path(path)
        told = {"Bucket": bucket, "Prefix": f"{key}/" if key else ""}
        while True:
            page = sync(self.loop, self._call_s3, "list_objects_v2", **told)
            yield [
                (each["Key"][len(told["Prefix"]) :], each["Size"], each["ETag"]) for each in page.get("Contents", ())
            ]
            if not page.get("IsTruncated"):
                return
            told["ContinuationToken"] = page["NextContinuationToken"]


class _File(S3File):  # type: ignore[misc]
    """A file of which parts are read, as often as they need."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start=start, end=end)) if start < end else b""


_NUMBERS = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES, FileExistsError: errno.EEXIST}
