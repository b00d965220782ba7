"""LangChain's ``with_structured_output`` (https://docs.langchain.com), for both of our dialects."""

from functools import partial

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from person import QUESTION, Person, run

KEY = "none"


def with_openai(method: str, url: str, model: str) -> Person:
    chat = ChatOpenAI(model=model, base_url=f"{url}/v1", api_key=KEY, max_retries=0, max_tokens=200)
    return chat.with_structured_output(Person, method=method).invoke(QUESTION)


def with_anthropic(method: str, url: str, model: str) -> Person:
    chat = ChatAnthropic(model=model, base_url=url, api_key=KEY, max_retries=0, max_tokens=200)
    return chat.with_structured_output(Person, method=method).invoke(QUESTION)


def streamed(url: str, model: str) -> Person:
    """Take the last of what the chain streams."""
    chat = ChatOpenAI(model=model, base_url=f"{url}/v1", api_key=KEY, max_retries=0, max_tokens=200)
    return list(chat.with_structured_output(Person, method="json_schema").stream(QUESTION))[-1]


if __name__ == "__main__":
    run(
        {
            "json-schema": partial(with_openai, "json_schema"),
            "function-calling": partial(with_openai, "function_calling"),
            "json-mode": partial(with_openai, "json_mode"),
            "streamed": streamed,
            "anthropic-function-calling": partial(with_anthropic, "function_calling"),
            "anthropic-json-schema": partial(with_anthropic, "json_schema"),
        }
    )
