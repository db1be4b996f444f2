"""What the embedded model is, and what it refuses.

It refuses with `LMUnsupportedFeatureError`, always saying what it is and what to use instead: a made-up answer would
look like an answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dspy_actors.errors import LMInvalidRequestError, LMUnsupportedFeatureError
from dspy_actors.lm.embedded.prompt import FieldNote, Layout

PROVIDER = "embedded"

WHAT_IT_IS = (
    "The embedded model is a nearest-neighbour learner over the words of the prompt: it labels, picks, copies and "
    "extracts, and it writes nothing of its own"
)

WHAT_INSTEAD = "Use a language model for this, for example lm='openai/gpt-4o-mini' or a server on your own machine"

_IGNORED = frozenset({"temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty"})
_IGNORED_TOO = frozenset({"user", "metadata", "timeout", "extra_headers", "reasoning_effort"})
_HONOURED = frozenset({"n", "max_tokens", "max_completion_tokens", "stop", "response_format"})
_MAX_CHOICES = 128

_WRITING = frozenset({"instruction", "instructions", "proposal", "proposals", "proposed", "sql", "program", "script"})
_CODE_NAMES = frozenset({"code", "generated_code", "final_generated_code", "python_code", "source_code", "next_code"})
_TOOL_NAMES = frozenset({"next_tool_name", "next_tool_args", "tool_calls"})
_FOREIGN_TYPE = re.compile(r"\b(?:Tool|ToolCalls|ToolCallResults|Code|Image|Audio|File)\b")
_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")


def refuse(what: str, model: str = "knn") -> LMUnsupportedFeatureError:
    """The error for something this model does not do; `what` completes the sentence `It cannot …`."""
    return LMUnsupportedFeatureError(
        f"{WHAT_IT_IS}. It cannot {what}. {WHAT_INSTEAD}.", model=f"{PROVIDER}/{model}", provider=PROVIDER
    )


def check_options(options: Mapping[str, object], model: str = "knn") -> None:
    """Refuse sampling options that this model cannot honour; those that only shape randomness are no concern of it.

    Raises `LMUnsupportedFeatureError`, and `LMInvalidRequestError` for a value that no model accepts.
    """
    for name, value in options.items():
        if value is None or value is False or value == () or value == [] or name in _IGNORED or name in _IGNORED_TOO:
            continue
        if name in ("tools", "functions", "tool_choice", "parallel_tool_calls"):
            raise refuse("call tools", model)
        if name == "model_type" and value == "embeddings":
            raise refuse("turn texts into vectors; write Embedder('openai/MODEL') or 'local/MODEL'", model)
        if name not in _HONOURED:
            raise refuse(f"honour the option {name!r}", model)
    response_format = options.get("response_format")
    if response_format is not None and response_format != {"type": "text"}:
        raise refuse("promise an answer in a `response_format`; it answers in the layout that the prompt shows", model)
    choices = options.get("n")
    if choices is not None and (not isinstance(choices, int) or not 1 <= choices <= _MAX_CHOICES):
        raise LMInvalidRequestError(
            f"n is {choices!r}; write a whole number from 1 to {_MAX_CHOICES}", model=model, provider=PROVIDER
        )


def check_layout(layout: Layout, model: str = "knn") -> None:
    """Refuse signatures that ask for tools, code, proposals or media. Raises `LMUnsupportedFeatureError`."""
    for field in (*layout.inputs, *layout.outputs):
        if found := _FOREIGN_TYPE.search(_QUOTED.sub("", field.type)):
            raise refuse(f"work with the field `{field.name}`, whose type is {found.group()}", model)
    for field in layout.outputs:
        if field.name in _TOOL_NAMES:
            raise refuse(f"choose tools and their arguments (field `{field.name}`)", model)
        if not field.options and field.kind == "text" and _asks_for_writing(field):
            raise refuse(f"write code or propose instructions (field `{field.name}`)", model)


def _asks_for_writing(field: FieldNote) -> bool:
    return field.name in _CODE_NAMES or not _WRITING.isdisjoint(field.name.casefold().split("_"))
