"""Project definitions: what a project file may say, read, checked, compared and written in one canonical form."""

from millrace.definitions.canonical import digest, from_canonical_json, to_canonical_json
from millrace.definitions.changes import changes
from millrace.definitions.errors import DefinitionError, DefinitionErrors
from millrace.definitions.load import load_text
from millrace.definitions.model import Project
from millrace.definitions.schema import json_schema

__all__ = [
    "DefinitionError",
    "DefinitionErrors",
    "Project",
    "changes",
    "digest",
    "from_canonical_json",
    "json_schema",
    "load_text",
    "to_canonical_json",
]
