"""HTTP: routes, headers, status codes, streams. Thin handlers."""
