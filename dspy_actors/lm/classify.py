"""From a provider's refusal to one of our errors: a pure function over status, headers and body.

Body codes count before the status: "no money left" arrives as 400, 402, 403 and 429, and only its code tells it from
"too fast", which must be tried again. Sources: OpenAI's and Anthropic's error pages and API schemas; vLLM, Ollama and
llama.cpp server answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from json import loads
from math import isfinite

from dspy_actors.error_root import writable
from dspy_actors.errors import (
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)
from dspy_actors.lm.error_codes import BY_CODE, STATUSES
from dspy_actors.lm.verdicts import NOT_READY, KeyEffect, is_provider_failure, is_retryable, key_effect

_BY_STATUS: Mapping[int, type[LMError]] = {
    401: LMAuthError,
    402: LMBillingError,
    403: LMAuthError,
    405: LMConfigurationError,
    407: LMConfigurationError,
    408: LMTimeoutError,
    409: LMServerError,
    424: LMServerError,  # Hugging Face's servers: the model failed
    425: LMServerError,
    429: LMRateLimitError,
    499: LMServerError,  # nginx and Google: the call was given up between the gateway and the model
}

LONGEST_CODE = 100
"""Characters that are read of an error's code or type, which stands in messages and in the log."""

_CONTEXT = re.compile(
    r"context.?(length|window|size)|maximum context|prompt is too long|too many (input )?tokens|"
    r"input (is )?too long|exceeds? the (model'?s )?(maximum )?(context|number of tokens)",
    re.IGNORECASE,
)
_NO_MONEY = re.compile(r"credit balance|spend(ing)? limit|usage limits?\b.*regain|billing|out of credit", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"\bmodels?\b.*(not (found|exist|supported)|unknown|does ?n[o']t exist)|^model:|invalid model name", re.IGNORECASE
)
_NO_FEATURE = re.compile(
    r"does(n't| not) support|not supported (by|with) this model|is unsupported|is deprecated for this model",
    re.IGNORECASE,
)
_WRONG_KEY = re.compile(r"api[ _-]?key (is )?(not valid|invalid)|(invalid|incorrect) api[ _-]?key", re.IGNORECASE)
_NOT_READY = re.compile(r"\bloading (the )?model|model is (still |currently )?loading", re.IGNORECASE)
_USER = re.compile(r"//[^/@]*@")
_SECRETS = re.compile(r"(sk-|bearer\s+|key[=:]\s*)[A-Za-z0-9_\-.*]{6,}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an error: is the same request worth repeating, does a breaker count it, what of the key."""

    error: LMError
    retryable: bool
    provider_failure: bool
    key: KeyEffect


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a body says of an error, whatever its shape: `code`, `type` and `message`, empty where it is silent."""

    message: str = ""
    code: str = ""
    type: str = ""
    understood: bool = False


def classify(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    provider: str | None = None,
    model: str | None = None,
    endpoint: str | None = None,
) -> LMError:
    """The error that an answer with `status` (or an error object inside a 200) stands for. Pure.

    An error inside a 200, of a whole answer or of a stream, is read as if it had come with the status that it names or
    that its code or type comes with elsewhere. `headers` have lower-case names. The error holds the provider's message,
    at most 500 characters, with anything that looks like a key blotted out, and no header but the request id and
    `retry_after` in seconds. `endpoint`, which holds no key, stands in the message.
    """
    refusal = read_refusal(body)
    if is_answer(status):
        status = _meant(refusal, status)
    found = _class_of(status, refusal)
    code = _name_of(refusal)
    if status == 503 and _NOT_READY.search(refusal.message):
        code = NOT_READY
    said = _SECRETS.sub(r"\1[key]", refusal.message)[:500]
    where = f"{provider or 'the provider'}{f' at {endpoint}' if endpoint else ''}"
    named = f" {code}" if code and code != str(status) else ""
    text = f"{where} answered {status}{named}{f': {said}' if said else ''}"
    advice = _advice(found, status, headers)
    return found(
        f"{text}{advice}",
        model=model,
        provider=provider,
        status=status,
        provider_code=code,
        request_id=headers.get("x-request-id") or headers.get("request-id"),
        retry_after=retry_after(headers),
        **({"phase": "total"} if found is LMTimeoutError else {}),
    )


def judge(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    provider: str | None = None,
    model: str | None = None,
) -> Verdict:
    """`classify`, and all that follows from it. Pure."""
    error = classify(status, headers, body, provider=provider, model=model)
    return Verdict(error, is_retryable(error), is_provider_failure(error), key_effect(error))


def read_refusal(body: bytes) -> Refusal:
    """Read `{"error": {...}}`, `{"error": "text"}`, a top-level error object, a list of one, or plain text."""
    try:
        data = loads(body)
    except (ValueError, RecursionError):
        text = body[:500].decode("utf-8", "replace").strip()
        return Refusal("" if text.startswith("<") else text)
    if isinstance(data, list) and data:
        data = data[0]
    if isinstance(data, str):
        return Refusal(data, understood=True)
    if not isinstance(data, dict):
        return Refusal()
    error = data.get("error", data)
    if isinstance(error, str):
        return Refusal(error, _word(data.get("code")), _word(data.get("type")), understood=True)
    if not isinstance(error, dict):
        return Refusal()
    details = error.get("details")
    inner = details.get("error_code") if isinstance(details, dict) else None
    message = error.get("message") or error.get("detail") or data.get("detail") or ""
    return Refusal(
        message if isinstance(message, str) else str(message),
        _word(inner) or _word(error.get("code")),
        _word(error.get("type")) or _word(error.get("status")),
        understood=True,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait from `retry-after-ms` or `retry-after` (seconds or an HTTP date); what makes no sense is `None`.

    A date counts from the response's own `Date` header, so that a clock that is hours off does no harm; without one it
    is ignored.
    """
    seconds = _number(headers.get("retry-after-ms"))
    if seconds is not None:
        return seconds / 1000.0
    raw = headers.get("retry-after")
    seconds = _number(raw)
    if seconds is not None or raw is None:
        return seconds
    from email.utils import parsedate_to_datetime  # it loads a lot, and few servers send a date

    try:
        until = parsedate_to_datetime(raw)
        now = parsedate_to_datetime(headers.get("date", ""))
        waited = (until - now).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return waited if waited >= 0 else None


def is_answer(status: int) -> bool:
    """Whether a body that came with `status` is read as an answer: some gateways give 201 to whatever is posted."""
    return 200 <= status < 300


def _meant(refusal: Refusal, status: int) -> int:
    """The status that an error inside an answer stands for; the answer's own where it does not say."""
    for word in (refusal.code, refusal.type):
        if _is_status(word):
            return int(word)
        if word in STATUSES:
            return STATUSES[word]
        if word in BY_CODE:
            return status  # it says what it is, and the word after it is less exact
    return status


def _is_status(word: str) -> bool:
    return len(word) == 3 and word.isascii() and word.isdecimal() and "400" <= word < "600"


def _name_of(refusal: Refusal) -> str | None:
    """Its code; where that is a status, as with LiteLLM, vLLM and Google, the word beside it, which says more."""
    if _is_status(refusal.code):
        return refusal.type or refusal.code
    return refusal.code or refusal.type or None


def _class_of(status: int, refusal: Refusal) -> type[LMError]:
    for word in (refusal.code, refusal.type):
        named = BY_CODE.get(word)
        if named is not None:
            return _fitting(named, status)
    if status == 400 or status == 413:
        return _bad_request(status, refusal.message)
    named = _BY_STATUS.get(status)
    if named is not None:
        return LMBillingError if named is LMAuthError and _NO_MONEY.search(refusal.message) else named
    if status == 404:
        missing = _NO_MODEL.search(refusal.message) or refusal.type == "not_found_error"
        return LMUnsupportedModelError if missing else LMConfigurationError
    if 300 <= status < 400:
        return LMConfigurationError
    if status >= 500:
        return LMServerError
    if status >= 400:
        return _bad_request(status, refusal.message)
    return LMServerError if refusal.understood and (refusal.message or refusal.code) else LMUnexpectedError


def _fitting(named: type[LMError], status: int) -> type[LMError]:
    """Some codes are used for two things: `slow_down` and `rate_limit_exceeded` with a 5xx is an overloaded server."""
    if named is LMRateLimitError and status >= 500:
        return LMServerError
    if named is LMRateLimitError and status == 413:
        return LMInvalidRequestError  # one request above the whole minute's tokens: waiting cannot help
    return named


def _bad_request(status: int, message: str) -> type[LMError]:
    if _CONTEXT.search(message):
        return ContextWindowExceededError
    if _NO_MONEY.search(message):
        return LMBillingError
    if _WRONG_KEY.search(message):
        return LMAuthError
    if status == 400 and _NO_MODEL.search(message):
        return LMUnsupportedModelError
    if status == 400 and _NO_FEATURE.search(message):
        return LMUnsupportedFeatureError
    return LMInvalidRequestError


def _advice(found: type[LMError], status: int, headers: Mapping[str, str]) -> str:
    if found is LMConfigurationError and status in (404, 405):
        return "; is the base_url right? It usually ends in /v1"
    if found is LMConfigurationError and 300 <= status < 400:
        to = _USER.sub("//", headers.get("location", "").partition("?")[0])
        return f"; redirects are not followed, set base_url to where it points: {to}"
    if found is LMAuthError:
        return "; check the api_key of this LM and what it is allowed to do"
    if found is LMBillingError:
        return "; trying again cannot help before the account is topped up or its limit raised"
    return ""


def _word(value: object) -> str:
    if isinstance(value, bool):
        return ""
    return " ".join(writable(str(value)[:LONGEST_CODE]).split()) if isinstance(value, (str, int)) else ""


def _number(raw: str | None) -> float | None:
    if raw is None:
        return None
    try:
        value = float(raw)
    except ValueError:
        return None
    return value if isfinite(value) and value >= 0 else None
