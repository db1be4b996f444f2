"""Every error of `dspy_actors`, in one tree.

```
DspyActorsError(kind)
  SignatureError                      a signature that does not parse or whose fields clash      (also ValueError)
  InputError(field)                   a missing, extra or ill-typed input of a program           (also ValueError)
  ModuleError(module, attribute)      a module that cannot be copied, as each started one is, or run  (also TypeError)
  StateError(path)                    a saved program that does not fit the one it is loaded into
  NoRuntime                           a program was called where no Runtime is
  BlockingCall                        a blocking call from a running event loop; names `acall`
  Busy(name)                          a module instance admits no more calls
  NameTaken(name)                     a program of that name runs already                        (also ValueError)
  UnknownProgram(name)                no program of that name runs                               (also KeyError)
  DeadlineExceeded(phase, seconds)    the call's deadline passed                                 (also TimeoutError)
  StreamError                         a stream used as it cannot be: read twice, asked too early (also RuntimeError)
  CallCancelled                       the call was cancelled by its caller
  ShuttingDown                        the runtime drains or has ended
  UnknownTenant(tenant)               a tenant that the runtime was not told of                  (also ValueError)
  DataError(path, line)               a row or a file of data that cannot be read
  ProgramError(cause)                 a program's own exception, where it has to travel as a value
  EvaluationError                     an evaluation that cannot begin
  QuarantinedInput(entry, until)      the input is set aside: calls with it failed too often; nothing was sent
  QuarantineError(entry)              no such entry, inputs that are not its own, a file that is none  (also ValueError)
  AdapterError
    AdapterParseError(field, text, truncated, limit)
                                      the model's answer does not hold the outputs asked for
  LMError(model, provider, status, provider_code, request_id, retry_after)
    LMTransportError                  no answer arrived: refused, reset, cut, DNS, TLS
    LMConfigurationError              the LM as written cannot work
      LMNotConfiguredError            no LM, no key
    LMUnsupportedFeatureError         this model cannot do what was asked
    LMUnexpectedError                 the provider answered something that is no answer
    LMStreamAssemblyError(partial)    a stream was cut short, or its pieces do not fit together
    CircuitOpen(last_failure)         the breaker keeps calls from a provider that fails
    BudgetExceeded(scope)             the call would spend more than its tenant or session may
    LMProviderError                   the provider refused
      LMAuthError  LMBillingError  LMRateLimitError  LMServerError
      LMTimeoutError(phase)
      LMInvalidRequestError
        ContextWindowExceededError  LMUnsupportedModelError  LMContentFilterError
```

The names below `LMError` are DSPy 3.4.1's where it has one. `kind` is a stable word for logs, result files and
dashboards; `to_wire` and `from_wire` carry an error across a process border as msgpack-able data. No error holds
request headers or a key.
"""

from __future__ import annotations

from typing import ClassVar

from dspy_actors.error_root import DspyActorsError as DspyActorsError
from dspy_actors.error_root import from_wire as from_wire
from dspy_actors.no_runtime import no_runtime


class SignatureError(DspyActorsError, ValueError):
    """A signature that does not parse, or whose fields clash."""

    kind = "signature"
    fields = ("field",)
    field: str | None


class InputError(DspyActorsError, ValueError):
    """A missing, extra or ill-typed input of a program; `field` names it."""

    kind = "input"
    fields = ("field",)
    field: str | None


class ModuleError(DspyActorsError, TypeError):
    """A module that cannot be copied, as each is that is started, or run; `attribute` is what keeps it from that."""

    kind = "module"
    fields = ("module", "attribute")
    module: str
    attribute: str | None


class StateError(DspyActorsError, ValueError):
    """A saved program that does not fit the program it is loaded into; nothing was changed."""

    kind = "state"
    fields = ("path", "predictor")
    path: str | None
    predictor: str | None


class NoRuntime(DspyActorsError, RuntimeError):
    """A program was called outside any `Runtime`; the message says where to `write` the call."""

    kind = "no_runtime"

    def __init__(self, name: str = "program", write: str = "program(...)", *, message: str | None = None) -> None:
        super().__init__(message or no_runtime(name, write))


class BlockingCall(DspyActorsError, RuntimeError):
    """A blocking call from a thread whose event loop is running: it would stop the loop. It says what to write."""

    kind = "blocking_call"

    def __init__(self, name: str = "program", instead: str = "`await program.acall(...)`") -> None:
        super().__init__(f"{name}(...) would block the running event loop; write {instead} here")


class Busy(DspyActorsError):
    """A module instance admits no more calls: `max_inflight` run and `max_queue` wait."""

    kind = "busy"
    infrastructure = True
    fields = ("name",)
    name: str | None


class NameTaken(DspyActorsError, ValueError):
    """A program called `name` runs in this runtime already; that one goes on as it was."""

    kind = "name_taken"
    fields = ("name",)
    name: str | None


class UnknownProgram(DspyActorsError, KeyError):
    """No program called `name` runs in this runtime; the message lists those that do."""

    kind = "unknown_program"
    fields = ("name",)
    name: str | None
    __str__ = Exception.__str__  # a KeyError's is a repr


class DeadlineExceeded(DspyActorsError, TimeoutError):
    """The call's deadline passed in `phase`; `seconds` is how long the call had.

    `partial` is the text that a stream had brought by then.
    """

    kind = "deadline"
    infrastructure = True
    fields = ("phase", "seconds", "partial")
    phase: str | None
    seconds: float | None
    partial: str | None


class StreamError(DspyActorsError, RuntimeError):
    """A stream used as it cannot be: it is read once, by one reader, and has an answer when it is over."""

    kind = "stream_use"


class CallCancelled(DspyActorsError):
    """The call was cancelled by whoever made it."""

    kind = "cancelled"
    infrastructure = True


class ShuttingDown(DspyActorsError, RuntimeError):
    """The runtime drains or has ended; make the call on another one."""

    kind = "shutting_down"
    infrastructure = True


class UnknownTenant(DspyActorsError, ValueError):
    """A tenant that is not among those that `Runtime(tenants=...)` was told of."""

    kind = "unknown_tenant"
    fields = ("tenant",)
    tenant: str | None


class DataError(DspyActorsError, ValueError):
    """A file or a row of data that cannot be read."""

    kind = "data"
    fields = ("path", "line", "column")
    path: str | None
    line: int | None
    column: str | None


class ProgramError(DspyActorsError):
    """A program's or a metric's own exception, as a value: `error_type` is the name of its class."""

    kind = "program"
    fields = ("error_type",)
    error_type: str | None


class EvaluationError(DspyActorsError, ValueError):
    """An evaluation or a search that cannot begin as written."""

    kind = "evaluation"


class QuarantinedInput(DspyActorsError):
    """The input is set aside, because calls with it failed again and again; nothing was sent.

    `entry` is the id to show, release or replay it by. One call is let through as a probe at `until` (seconds since
    1970), in `retry_after` seconds. `reason` is the kind of fault: `crash`, `parse`, `context_window`, …
    """

    kind = "quarantined"
    fields = ("entry", "until", "reason", "retry_after")
    entry: str
    reason: str
    until: float
    retry_after: float


class QuarantineError(DspyActorsError, ValueError):
    """No such entry, inputs that are not the entry's, a file that is no quarantine, or settings that make no sense."""

    kind = "quarantine"
    fields = ("entry", "path")


class AdapterError(DspyActorsError):
    """A prompt that cannot be rendered or an answer that cannot be read."""

    kind = "adapter"


class AdapterParseError(AdapterError):
    """The model's answer does not hold the outputs asked for: `field` is the first one missing or ill-typed.

    `truncated` says what cut the answer off, `length` or `content_filter`, where it is not whole; `limit` is how many
    tokens the request allowed it, if it said so.
    """

    kind = "parse"
    fields = ("field", "text", "adapter", "truncated", "limit")
    field: str | None
    text: str | None
    adapter: str | None
    truncated: str | None
    limit: int | None


_LM_FIELDS = "model provider status provider_code request_id retry_after attempts phase partial"


class LMError(DspyActorsError):
    """Root of what goes wrong between us and a model. `retry_after` is in seconds; nan is none. `partial` is the text
    that a stream had delivered before it failed; such a call is not tried again.
    """

    kind = "lm"
    infrastructure = True
    retryable: ClassVar[bool] = False
    fields: ClassVar[tuple[str, ...]] = tuple(_LM_FIELDS.split())
    model: str | None
    provider: str | None
    status: int | None
    provider_code: str | None
    request_id: str | None
    retry_after: float | None
    attempts: int | None
    phase: str | None
    partial: str | None

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message, **fields)
        if self.retry_after != self.retry_after:  # nan, of a provider of one's own: no pause and no timer would end
            self.retry_after = None


class LMTransportError(LMError):
    """No answer arrived: connection refused, reset or cut, DNS, TLS."""

    kind = "lm_transport"
    retryable = True


class LMConfigurationError(LMError, ValueError):
    """The LM as written cannot work."""

    kind = "lm_configuration"


class LMNotConfiguredError(LMConfigurationError):
    """There is no LM, or no key for it."""

    kind = "lm_not_configured"


class LMUnsupportedFeatureError(LMError):
    """This model cannot do what was asked of it."""

    kind = "lm_unsupported_feature"
    infrastructure = False


class LMUnexpectedError(LMError):
    """The provider answered with something that is no answer: HTML, cut JSON, no choices."""

    kind = "lm_unexpected"


class LMStreamAssemblyError(LMError):
    """A stream ended before its answer was whole, or its pieces do not fit together; `partial` is what had come."""

    kind = "lm_stream"


class CircuitOpen(LMError):
    """The breaker keeps calls from a provider that fails; `retry_after` says in how many seconds to come back.

    `last_failure` is the provider's last failure in words, where the breaker opened because of one.
    """

    kind = "circuit_open"
    fields = (*LMError.fields, "last_failure")
    last_failure: str | None


class BudgetExceeded(LMError):
    """The call would spend more than its tenant or its session may: what would have was not sent.

    `scope` names the budget, `left` is what it has.
    """

    kind = "budget_exceeded"
    fields = (*LMError.fields, "scope", "left")
    scope: str | None
    left: float | None


class LMProviderError(LMError):
    """The provider refused."""

    kind = "lm_provider"


class LMAuthError(LMProviderError):
    """The key is missing, wrong or not allowed here."""

    kind = "lm_auth"


class LMBillingError(LMProviderError):
    """The account has no money left; trying again cannot help."""

    kind = "lm_billing"


class LMRateLimitError(LMProviderError):
    """Too fast; `retry_after` says in how many seconds to come back, where the provider said so."""

    kind = "lm_rate_limit"
    retryable = True


class LMServerError(LMProviderError):
    """The provider failed (5xx) or is overloaded."""

    kind = "lm_server"
    retryable = True


class LMTimeoutError(LMProviderError):
    """The provider was too slow in `phase` (connect, write, first_byte, body, total; streams: first_token, idle)."""

    kind = "lm_timeout"
    retryable = True


class LMInvalidRequestError(LMProviderError):
    """The request itself is at fault; the same request will be refused again."""

    kind = "lm_invalid_request"
    infrastructure = False


class ContextWindowExceededError(LMInvalidRequestError):
    """The prompt does not fit the model's context."""

    kind = "context_window"


class LMUnsupportedModelError(LMInvalidRequestError):
    """The provider does not know this model."""

    kind = "lm_unsupported_model"
    infrastructure = True


class LMContentFilterError(LMInvalidRequestError):
    """The provider's content policy refused the request or the answer."""

    kind = "content_filter"
