"""All settings, composed of each room's own; the only reader of files and environment."""

from llm_server.settings.loading import Loaded, load
from llm_server.settings.model import LOCAL, ServerConfig, Settings
from llm_server.settings.problems import Problem, SettingsError

__all__ = ["LOCAL", "Loaded", "Problem", "ServerConfig", "Settings", "SettingsError", "load"]
