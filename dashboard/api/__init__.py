"""The REST API for other consumers: read-only, JSON, described by OpenAPI made from its models."""

from dashboard.api.app import build_api
from dashboard.api.openapi import document

__all__ = ["build_api", "document"]
