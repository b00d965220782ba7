"""Run a model in this process: load, continuous batching, constrained decoding."""

from llm_server.engine.config import EngineConfig, ModelConfig
from llm_server.engine.weights import INSTALLABLE, InstallError, install, installed

__all__ = [
    "INSTALLABLE",
    "EngineConfig",
    "InstallError",
    "ModelConfig",
    "install",
    "installed",
]
