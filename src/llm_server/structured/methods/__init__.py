"""The ways to make a model answer in a form, behind one port: native, tool, prompt, grammar.

A method says how to ask and where in the answer the words are. Judging, repairing and bringing the answer
into the form that the caller expects are the same for all.
"""

from llm_server.structured.methods.choosing import choose
from llm_server.structured.methods.port import Method

__all__ = ["Method", "choose"]
