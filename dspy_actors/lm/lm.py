"""`LM("provider/model", ...)`: a language model as a value. It opens nothing and holds no connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dspy_actors.arguments import a, flag, is_number, whole
from dspy_actors.errors import LMConfigurationError, LMError
from dspy_actors.lm.falling_back import MAY_ANSWER, Kinds, checked_kinds
from dspy_actors.lm.hedge import Hedge
from dspy_actors.lm.options import check_options
from dspy_actors.lm.providers.base import KeySource, LMConfig
from dspy_actors.lm.providers.table import PROVIDERS
from dspy_actors.lm.transports.base import bare
from dspy_actors.lm.transports.urls import fault_of
from dspy_actors.secret import UNSENDABLE, Secret, may_be_sent

_EMPTY: Mapping[str, object] = MappingProxyType({})
_ARGUMENTS = ("api_key", "base_url", "cache", "num_retries", "timeout", "fallbacks", "hedge")


@dataclass(frozen=True, slots=True, init=False)
class LM:
    """A model, where it is, and how to ask it.

    Args:
        model: `"provider/model"`, as `"openai/gpt-4o-mini"` or `"embedded/knn"`.
        api_key: the key, or a callable that returns it (asked again when the server refuses the key it gave), or a
            list of keys, of which the first is used that no server has refused or called out of money within the last
            minute. Without it the provider's environment variable is read when the first call is made.
        base_url: the server, for every OpenAI-compatible one that is not OpenAI's. `api_base` is DSPy's word for it.
        cache: answer repeated requests from the cache. Off, every call is sent.
        num_retries: how often a failed attempt is tried again (rate limits, server errors, transport); the
            call's deadline stands above it.
        timeout: seconds one attempt may take, `None` for the provider's default.
        fallbacks: models asked in this order, as `LM`, name or `Fallback`, when this one fails in a way that another
            may answer (`falling_back.MAY_ANSWER`: an outage, a rate limit, a timeout, an open circuit, a refused key;
            never a bad request, a content filter, a budget, or the caller's own deadline). Each is asked with its own
            options, retries and guards, all within the one deadline of the call: a `timeout` here leaves them time. A
            bare name of the same provider stands for that model at this LM's `base_url` with its `api_key`; one of
            another provider is asked at that provider's own server with the key in its environment variable. An `LM`
            is taken as it is: it has only the `base_url` and `api_key` that it was given.
        hedge: send an equal request beside one that is slower than most were, and take what answers first: `True`, or a
            `Hedge` that says when and how often. Both are billed. Never for streams.
        options: sampling options by OpenAI's names, as `temperature=0.0`, `max_tokens=200`; for providers that speak
            OpenAI's dialect also `model_type="responses"`, to use that API instead of chat completions. Names that are
            not known here are sent as they are, unless one is nearly a known one (`max_token`).

    Raises:
        LMConfigurationError: the name has no provider, an option makes no sense, an http(s) `base_url` cannot be
            asked by anybody (`https://api..example.com`, `/v1/é`), or a model at a server would be asked twice, as
            where an LM is its own fallback.
    """

    provider: str
    model: str
    base_url: str | None
    api_key: KeySource = field(repr=False)
    cache: bool
    num_retries: int
    timeout: float | None
    options: Mapping[str, object]
    fallbacks: tuple[Fallback, ...]
    hedge: Hedge | None
    name: str = field(repr=False, compare=False)
    """`"provider/model"`, as it was written."""

    config: LMConfig = field(repr=False, compare=False)
    """What a worker needs to know to ask this model. LMs with equal configs share a worker."""

    def __init__(
        self,
        model: str,
        *,
        api_key: str | KeySource | Sequence[str | Secret] = None,
        base_url: str | None = None,
        api_base: str | None = None,
        cache: bool = True,
        num_retries: int = 3,
        timeout: float | None = None,
        fallbacks: Sequence[LM | str | Fallback] = (),
        hedge: bool | Hedge | None = None,
        **options: object,
    ) -> None:
        a(str, "LM", "model", model, "a provider and a model, as 'openai/gpt-4o-mini'")
        provider, slash, name = model.partition("/")
        if not slash or not provider or not name:
            msg = f"LM({model!r}): write the provider before the model, as 'openai/gpt-4o-mini' or 'embedded/knn'"
            raise LMConfigurationError(msg, model=model)
        flag("LM", "cache", cache)
        a((str, type(None)), "LM", "base_url", base_url, "a URL, or None for the provider's own")
        a((str, type(None)), "LM", "api_base", api_base, "a URL, or None for the provider's own")
        if base_url is not None and api_base is not None:
            msg = f"LM(base_url={base_url!r:.80}, api_base=...): two words for one thing; give one of them"
            raise LMConfigurationError(msg, model=model)
        _check_url(base_url if base_url is not None else api_base, model)
        check_options("LM", options)
        whole("LM", "num_retries", num_retries, least=0)
        if timeout is not None and not (is_number(timeout) and timeout > 0):
            msg = f"LM(timeout={timeout!r:.80}): more than 0 seconds, or None for the provider's default"
            raise LMConfigurationError(msg, model=model)
        put = object.__setattr__
        put(self, "provider", provider)
        put(self, "model", name)
        put(self, "base_url", base_url if base_url is not None else api_base)
        put(self, "api_key", _key_source(api_key, provider))
        put(self, "cache", cache)
        put(self, "num_retries", num_retries)
        put(self, "timeout", timeout)
        put(self, "options", MappingProxyType(dict(options)) if options else _EMPTY)
        put(self, "hedge", _hedge(hedge))
        put(self, "name", f"{provider}/{name}")
        put(self, "config", LMConfig(provider, name, self.base_url, self.api_key, timeout))
        put(self, "fallbacks", _checked(self, fallbacks) if fallbacks else ())

    def copy(self, **changes: Any) -> LM:
        """This LM with some arguments changed; option names are merged over the options it has."""
        if "api_base" in changes:
            changes["base_url"] = changes.pop("api_base")
        own = {name: getattr(self, name) for name in _ARGUMENTS}
        return LM(**{"model": self.name, **own, **self.options, **changes})

    def for_call(
        self, above: Mapping[str, object], below: Callable[[str], Mapping[str, object]] = lambda provider: _EMPTY
    ) -> tuple[LM, Mapping[str, object]]:
        """The options of one call of this LM, and the LM to ask: its fallbacks have the options of the call as well.

        `above` stands above the options of each LM, and what `below` gives for its provider below them.
        """
        under = below(self.provider)
        options = {**under, **self.options, **above} if above or under else self.options
        if not self.fallbacks:
            return self, options
        made = object.__new__(LM)
        for name in ("provider", "model", "options", "name", "config", *_ARGUMENTS):
            object.__setattr__(made, name, getattr(self, name))
        object.__setattr__(made, "fallbacks", tuple(each.for_call(above, below) for each in self.fallbacks))
        return made, options

    def __deepcopy__(self, memo: dict[int, object]) -> LM:
        return self  # nothing in it changes

    def to_state(self) -> dict[str, object] | None:
        """What a saved program says of its LM: never a key, and nothing at all of one with an endpoint of its own.

        An endpoint belongs to where a program runs. Read back from a file it could send a key elsewhere, and without
        it the model's name alone could send prompts elsewhere.
        """
        if self.base_url is not None:
            return None
        state = {"model": self.name, "cache": self.cache, "num_retries": self.num_retries, **self.options}
        fallbacks = [found for each in self.fallbacks if (found := each.to_state()) is not None]
        return {**state, "fallbacks": fallbacks} if fallbacks else state


@dataclass(frozen=True, slots=True, init=False)
class Fallback:
    """An `LM` that is asked when the one before it failed, and after which kinds of errors.

    A model given by its name is at the server of the LM that it stands in for: see `LM`.

    Raises `LMConfigurationError` for a kind after which no other model is asked (see `falling_back`), or for none.
    """

    lm: LM
    on: Kinds
    by_name: bool = field(compare=False, repr=False)

    def __init__(self, lm: LM | str, on: type[LMError] | Sequence[type[LMError] | str] = MAY_ANSWER) -> None:
        given: object = LM(lm) if isinstance(lm, str) else lm
        if not isinstance(given, LM):
            msg = f"a fallback is an LM, its name or a Fallback, not {type(given).__name__}"
            raise LMConfigurationError(msg)
        object.__setattr__(self, "lm", given)
        object.__setattr__(self, "on", checked_kinds(on))
        object.__setattr__(self, "by_name", isinstance(lm, str))

    def of(self, lm: LM) -> Fallback:
        """This fallback of `lm`: where only a model of the same provider was named, it is at the same server.

        No other provider's model is given that server or its key.
        """
        if not self.by_name:
            return self
        made = Fallback(self.lm.name, self.on)
        if self.lm.provider == lm.provider:
            object.__setattr__(made, "lm", LM(self.lm.name, base_url=lm.base_url, api_key=lm.api_key))
        return made

    def for_call(self, above: Mapping[str, object], below: Callable[[str], Mapping[str, object]]) -> Fallback:
        """This fallback with the options of one call: see `LM.for_call`."""
        lm, options = self.lm.for_call(above, below)
        made = lm.copy()
        object.__setattr__(made, "options", MappingProxyType(dict(options)))
        return Fallback(made, self.on)

    def to_state(self) -> dict[str, object] | None:
        """As `LM.to_state`, and the names of the errors where they are not the usual ones."""
        state = self.lm.to_state()
        if state is None or self.on == MAY_ANSWER:
            return state
        return {**state, "on": [kind.__name__ for kind in self.on]}


def _check_url(url: str | None, model: str) -> None:
    """Refuse an http(s) URL that no transport could ask; other words are the provider's to know."""
    if url is None or not url.lower().startswith(("http://", "https://")):
        return
    fault = fault_of(url)
    if fault is not None:
        msg = f"LM(base_url={bare(url)!r:.200}): {fault}; write it as 'http://localhost:8000/v1'"
        raise LMConfigurationError(msg, model=model)


def _hedge(given: object) -> Hedge | None:
    if given is None or isinstance(given, Hedge):
        return given
    if isinstance(given, bool):
        return Hedge() if given else None
    msg = f"LM(hedge={given!r}): True, False or a Hedge(...)"
    raise LMConfigurationError(msg)


def _checked(lm: LM, fallbacks: Sequence[LM | str | Fallback]) -> tuple[Fallback, ...]:
    """The fallbacks of `lm` as records. Raises `LMConfigurationError` where a model at a server comes up twice."""
    if isinstance(fallbacks, (str, LM, Fallback)) or not isinstance(fallbacks, Sequence):
        msg = f"LM(fallbacks={fallbacks!r}): a list of LMs, of their names, or of Fallback(lm, on=...)"
        raise LMConfigurationError(msg, model=lm.name)
    made = tuple((each if isinstance(each, Fallback) else Fallback(each)).of(lm) for each in fallbacks)
    seen = {_place(lm)}
    for each in made:
        for place in _places(each.lm):
            if place in seen:
                name, where = place
                at = f" at {where}" if where else ""
                msg = f"LM({lm.name!r}, fallbacks=...): {name}{at} would be asked twice; name every model once"
                raise LMConfigurationError(msg, model=lm.name)
            seen.add(place)
    return made


def _place(lm: LM) -> tuple[str, str | None]:
    return lm.name, None if lm.base_url is None else lm.base_url.rstrip("/")


def _places(lm: LM) -> Iterator[tuple[str, str | None]]:
    yield _place(lm)
    for each in lm.fallbacks:
        yield from _places(each.lm)


def _key_source(given: object, provider: str) -> KeySource:
    """What was given as `api_key`, with every key in a `Secret`.

    Raises `LMConfigurationError` for anything else, and for a key that our providers could not send; those of one's
    own may do other things with a key than write it into a header.
    """
    if isinstance(given, (str, Secret)):
        return _key(given, provider)
    if given is None or callable(given):
        return given
    if isinstance(given, Sequence) and given and all(isinstance(key, (str, Secret)) for key in given):
        return tuple(_key(key, provider) for key in given)
    msg = f"api_key is a string, a Secret, a callable or a list of keys, not {type(given).__name__}"
    raise LMConfigurationError(msg)


def _key(given: str | Secret, provider: str) -> Secret:
    key = given if isinstance(given, Secret) else Secret(given)
    if provider in PROVIDERS and not may_be_sent(key.reveal()):
        raise LMConfigurationError(f"LM(api_key=...): the key {UNSENDABLE}", provider=provider)
    return key
