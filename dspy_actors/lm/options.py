"""`check_options`: sampling options looked at where an LM is made. Names that are not known here go out as they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from dspy_actors.arguments import is_count
from dspy_actors.errors import LMConfigurationError

_CLOSE = 0.85
"""How much alike (`difflib`'s ratio) an unknown name and a known one are where one was meant for the other."""

_OWN = "api_key base_url api_base cache num_retries timeout fallbacks hedge model_type"
_OPENAI = (
    "temperature top_p max_tokens max_completion_tokens max_output_tokens n stop seed presence_penalty "
    "frequency_penalty logprobs top_logprobs logit_bias tools tool_choice parallel_tool_calls functions function_call "
    "response_format reasoning reasoning_effort verbosity user metadata modalities audio prediction service_tier store "
    "stream stream_options extra_headers extra_body extra_query prompt_cache_key prompt_cache_retention "
    "safety_identifier web_search_options text truncation include instructions previous_response_id max_tool_calls"
)
_OTHERS = (
    "top_k min_p top_a typical_p thinking stop_sequences system betas container repetition_penalty repeat_penalty "
    "length_penalty min_tokens max_new_tokens best_of echo suffix stop_token_ids ignore_eos num_ctx num_predict "
    "keep_alive random_seed safe_prompt provider models plugins transforms documents rollout_id"
)
_KNOWN = frozenset(f"{_OWN} {_OPENAI} {_OTHERS}".split())


def check_options(where: str, options: Mapping[str, object]) -> None:
    """Raise `LMConfigurationError` for a value that makes no sense, and for a name that is nearly a known one.

    `None` leaves an option out. Other unknown names are let through: gateways have options of their own.
    """
    for name, value in options.items():
        if name not in _KNOWN:
            _refuse_slip(where, name)
        check, what = _CHECKS.get(name, _ANYTHING)
        if value is not None and not check(value):
            msg = f"{where}({name}={value!r:.80}): {what}"
            raise LMConfigurationError(msg)


def is_option(name: str) -> bool:
    """Whether an option of that name is known here, or of an `LM` itself."""
    return name in _KNOWN


def _refuse_slip(where: str, name: str) -> None:
    meant = _meant_by(name)
    if meant is not None:
        msg = f"{where}({name}=...): there is no such option; did you mean {meant}?"
        raise LMConfigurationError(msg)


@lru_cache(maxsize=256)
def _meant_by(name: str) -> str | None:
    from difflib import get_close_matches  # only for a name that is not known

    return next(iter(get_close_matches(str(name), sorted(_KNOWN), 1, _CLOSE)), None)


def _is_amount(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf  # type: ignore[operator]


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_stop(value: object) -> bool:
    return isinstance(value, str) or (_is_list(value) and all(isinstance(each, str) for each in value))  # type: ignore[attr-defined]


_Check = tuple[Callable[[object], bool], str]

_ANYTHING: _Check = (lambda value: True, "")
_AMOUNT: _Check = (_is_amount, "a number, 0 or more")
_COUNT: _Check = (is_count, "a whole number, 1 or more")

_CHECKS: Mapping[str, _Check] = {
    "temperature": _AMOUNT,
    "top_p": _AMOUNT,
    "max_tokens": _COUNT,
    "max_completion_tokens": _COUNT,
    "max_output_tokens": _COUNT,
    "n": _COUNT,
    "stop": (_is_stop, "a string or a list of strings"),
    "tools": (_is_list, "a list of tools"),
    "response_format": (lambda value: isinstance(value, Mapping), "a mapping, as {'type': 'json_object'}"),
}
