"""The public API as Pydantic models: what the OpenAPI document shows, and what the wire types accept."""
