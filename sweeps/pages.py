"""Pages that open from disk: a template and its content to one file that fetches nothing."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from datamodules.results import write_atomically

TEMPLATES = Path(__file__).parent


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> Path:
    """Fill a template of this folder, everything escaped, and write it whole or not at all; returns `path`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    write_atomically(path, environment.get_template(template).render(content).encode())
    return path


def data_uri(kind: str, content: bytes) -> str:
    """Bytes of a MIME type as an address that holds them itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def settings_in_rows(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted key, value in words), in their order."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += settings_in_rows(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", "not set" if value is None else str(value)))
    return rows
