"""`LM("provider/model", ...)`: a language model as a value. It opens nothing and holds no connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dspy_actors.errors import LMConfigurationError
from dspy_actors.lm.providers.base import KeySource, LMConfig
from dspy_actors.secret import Secret

_EMPTY: Mapping[str, object] = MappingProxyType({})


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
        options: sampling options by OpenAI's names, as `temperature=0.0`, `max_tokens=200`; for providers that speak
            OpenAI's dialect also `model_type="responses"`, to use that API instead of chat completions.

    Raises:
        LMConfigurationError: the name has no provider, or an option makes no sense.
    """

    provider: str
    model: str
    base_url: str | None
    api_key: KeySource = field(repr=False)
    cache: bool
    num_retries: int
    timeout: float | None
    options: Mapping[str, object]

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
        **options: object,
    ) -> None:
        provider, slash, name = model.partition("/")
        if not slash or not provider or not name:
            msg = f"LM({model!r}): write the provider before the model, as 'openai/gpt-4o-mini' or 'embedded/knn'"
            raise LMConfigurationError(msg, model=model)
        if num_retries < 0:
            msg = f"LM(num_retries={num_retries}): 0 or more"
            raise LMConfigurationError(msg, model=model)
        if timeout is not None and timeout <= 0:
            msg = f"LM(timeout={timeout}): more than 0 seconds, or None for the provider's default"
            raise LMConfigurationError(msg, model=model)
        put = object.__setattr__
        put(self, "provider", provider)
        put(self, "model", name)
        put(self, "base_url", base_url if base_url is not None else api_base)
        put(self, "api_key", key_source(api_key))
        put(self, "cache", cache)
        put(self, "num_retries", num_retries)
        put(self, "timeout", timeout)
        put(self, "options", MappingProxyType(dict(options)) if options else _EMPTY)

    @property
    def name(self) -> str:
        """`"provider/model"`, as it was written."""
        return f"{self.provider}/{self.model}"

    @property
    def config(self) -> LMConfig:
        """What a worker needs to know to ask this model. LMs with equal configs share a worker."""
        return LMConfig(self.provider, self.model, self.base_url, self.api_key, self.timeout)

    def copy(self, **changes: Any) -> LM:
        """This LM with some arguments changed; option names are merged over the options it has."""
        if "api_base" in changes:
            changes["base_url"] = changes.pop("api_base")
        own = {name: getattr(self, name) for name in ("api_key", "base_url", "cache", "num_retries", "timeout")}
        return LM(**{"model": self.name, **own, **self.options, **changes})

    def __deepcopy__(self, memo: dict[int, object]) -> LM:
        return self  # nothing in it changes

    def to_state(self) -> dict[str, object] | None:
        """What a saved program says of its LM: never a key, and nothing at all of one with an endpoint of its own.

        An endpoint belongs to where a program runs. Read back from a file it could send a key elsewhere, and without
        it the model's name alone could send prompts elsewhere.
        """
        if self.base_url is not None:
            return None
        return {"model": self.name, "cache": self.cache, "num_retries": self.num_retries, **self.options}


def key_source(given: object) -> KeySource:
    """What was given as `api_key`, with every key in a `Secret`. Raises `LMConfigurationError` for anything else."""
    if given is None or isinstance(given, Secret):
        return given
    if isinstance(given, str):
        return Secret(given)
    if callable(given):
        return given
    if isinstance(given, Sequence) and given and all(isinstance(key, (str, Secret)) for key in given):
        return tuple(key if isinstance(key, Secret) else Secret(key) for key in given)
    msg = f"api_key is a string, a Secret, a callable or a list of keys, not {type(given).__name__}"
    raise LMConfigurationError(msg)
