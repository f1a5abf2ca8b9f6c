"""Where a data set lies: a local folder, or any address that fsspec knows (https://..., s3://...). Files come whole.

Shards are a few megabytes, so a file is fetched into memory at once and compared with its digest before a byte of it
is parsed. What fails on the way is tried again a few times.
"""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datamodules.errors import DataError, MissingDependencyError

ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.5
CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
"""longest wait for a web server to answer, and for its next bytes"""


class MissingFileError(DataError):
    """There is no such file in an otherwise readable place."""


def is_address(place: Path | str) -> bool:
    """Whether a place is an address, as https://host/labels, and not a local folder."""
    return isinstance(place, str) and "://" in place


def address_of(place: Path | str, name: str) -> str:
    """The path or address of the file `name` in `place`. DataError for a name that would lead elsewhere."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise DataError(f"{name!r} in {place} is not a plain file name: the data set is not of this suite")
    if not is_address(place):
        return str(Path(place) / name)
    path, mark, query = str(place).partition("?")
    return f"{path.rstrip('/')}/{name}{mark}{query}"


def read_file(place: Path | str, name: str) -> bytes:
    """All bytes of one file.

    Args:
        place: local folder or address of the data set.
        name: a file in it.

    Raises:
        MissingFileError: the place has no such file.
        DataError: it cannot be read, for an address after three attempts.
        MissingDependencyError: addresses of this kind need a package that is not installed.
    """
    address = address_of(place, name)
    if is_address(place):
        return _with_retries(lambda: _fetch(address), address)
    try:
        return Path(address).read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"{address} does not exist") from error
    except OSError as error:
        raise DataError(f"{address} cannot be read ({_reason(error)})") from error


def list_files(place: Path | str) -> list[str] | None:
    """Names in `place`, sorted; None where it cannot list them, as many web servers cannot."""
    if not is_address(place):
        return sorted(os.listdir(place)) if Path(place).is_dir() else None
    try:
        system, path = _open(str(place))
        return sorted({str(entry).rstrip("/").rpartition("/")[2] for entry in system.ls(path, detail=False)})
    except MissingDependencyError:
        raise
    except Exception:  # every kind of storage has its own errors for this, and none of them is damage
        return None


def _with_retries(fetch: Callable[[], bytes], address: str) -> bytes:
    for attempt in range(ATTEMPTS):
        try:
            return fetch()
        except FileNotFoundError as error:
            raise MissingFileError(f"{address} does not exist") from error
        except MissingDependencyError:
            raise
        except Exception as error:  # each kind of storage raises its own
            if attempt + 1 == ATTEMPTS:
                raise DataError(
                    f"{address} cannot be read ({_reason(error)}; tried {ATTEMPTS} times): is the address right and "
                    "the server up?"
                ) from error
        time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _fetch(address: str) -> bytes:
    system, path = _open(address)
    content: bytes = system.cat_file(path)
    return content


def _open(address: str) -> tuple[Any, str]:
    """The file system behind an address and the path within it; fsspec keeps one a process, also after a fork."""
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(address, **_options(address))
    except (ImportError, ValueError) as error:  # ValueError: a scheme that fsspec has never heard of
        scheme = address.partition("://")[0]
        remedy = "pip install s3fs" if scheme in ("s3", "s3a") else "take https:// or s3://, or install what it names"
        raise MissingDependencyError(f"{scheme}:// addresses cannot be read ({error}): {remedy}") from error
    return system, path


def _options(address: str) -> dict[str, Any]:
    if not address.startswith(("http://", "https://")):
        return {}
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
    return {"client_kwargs": {"timeout": timeout}}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
