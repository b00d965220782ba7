"""Make a model answer in a schema: registry, methods (native, tool, prompt, grammar), validation, repair."""
