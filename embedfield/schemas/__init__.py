"""Schemas: those of the STAC extensions that are used here, kept so that no network is needed."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pystac.validation.stac_validator import JsonSchemaSTACValidator

# Nothing of ours is given in PROJJSON, so that this schema may let all pass.
PROJJSON = "https://proj.org/schemas/v0.7/projjson.schema.json"


def validator() -> JsonSchemaSTACValidator:
    """Return pystac's validator with all schemas at hand; it never asks a network.

    An object that names an extension whose schema is not kept here is refused
    with pystac's ``GetSchemaError``: `kept` tells beforehand.
    """
    from pystac.validation.stac_validator import GetSchemaError, JsonSchemaSTACValidator

    class Offline(JsonSchemaSTACValidator):
        """The same, without the way to a network."""

        def _get_schema(self, schema_uri: str) -> dict[str, Any]:
            if schema_uri not in self.schema_cache:
                raise GetSchemaError(schema_uri, LookupError("it is not kept here, and the network is not asked"))
            found: dict[str, Any] = super()._get_schema(schema_uri)
            return found

    made = Offline()
    made.schema_cache |= kept()
    return made


def kept() -> dict[str, dict[str, Any]]:
    """Return the schemas of extensions that are kept here, by address."""
    files = [file for file in resources.files(__name__).iterdir() if file.name.endswith(".json")]
    found: dict[str, dict[str, Any]] = {
        PROJJSON: {"$schema": "http://json-schema.org/draft-07/schema#", "$id": PROJJSON}
    }
    for file in sorted(files, key=lambda file: file.name):
        schema = json.loads(file.read_text("utf-8"))
        schema["$id"] = schema["$id"].removesuffix("#")
        found[schema["$id"]] = schema
    return found
