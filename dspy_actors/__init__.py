"""DSPy's programming model as a supervised actor system.

```python
from typing import Literal
from dspy_actors import Example, Predict, Runtime, Signature, InputField, OutputField

class Triage(Signature):
    "Sort a support ticket."
    ticket: str = InputField()
    category: Literal["billing", "shipping", "account"] = OutputField()

with Runtime(lm="embedded/knn") as rt:              # starts the supervision tree, stops it in reverse order
    triage = rt.start(Predict(Triage))              # an actor; its handle works from any thread and any loop
    print(triage(ticket="I was charged twice").category)
```

| room | what is in it |
|---|---|
| `signature/`, `adapters/`, `types/`, `example`, `messages` | words: text in, text out; no thread, no I/O |
| `quarantine/` | inputs that break programs, set aside |
| `lm/`, `cache/` | models: guards, workers, providers, transports |
| `runner`, `modules/`, `evaluation/`, `batch` | running: what a program is, who runs it, over one row or many |
| `streaming/` | streams in DSPy's form, for web services, and as stages with demand |
| `optimizers/` | search: programs in, better programs out |
| `runtime`, `cli/`, `demo/`, `testing/` | outside: the handle, the command line, the public fakes |
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspy_actors.adapters.base import Adapter
    from dspy_actors.adapters.chat_adapter import ChatAdapter
    from dspy_actors.adapters.json_adapter import JSONAdapter
    from dspy_actors.batch import Mapped
    from dspy_actors.errors import (
        AdapterParseError,
        BlockingCall,
        BudgetExceeded,
        Busy,
        CircuitOpen,
        DeadlineExceeded,
        DspyActorsError,
        EvaluationError,
        InputError,
        LMConfigurationError,
        LMError,
        NameTaken,
        NoRuntime,
        QuarantinedInput,
        QuarantineError,
        ShuttingDown,
        SignatureError,
        StateError,
        UnknownProgram,
        UnknownTenant,
    )
    from dspy_actors.evaluation.evaluate import Evaluate, Progress
    from dspy_actors.evaluation.result import EvaluationResult
    from dspy_actors.example import Example, Prediction
    from dspy_actors.lm.breaker_settings import FIVE_IN_A_ROW, BreakerSettings
    from dspy_actors.lm.budget import Budget
    from dspy_actors.lm.fairness import Fairness
    from dspy_actors.lm.guarding import Guarding
    from dspy_actors.lm.hedge import Hedge
    from dspy_actors.lm.limiter import LimiterSettings
    from dspy_actors.lm.lm import LM, Fallback
    from dspy_actors.lm.lm_stream import LMStream
    from dspy_actors.lm.pool_settings import PoolSettings
    from dspy_actors.lm.prices import Price
    from dspy_actors.lm.retry_budget import RetryBudgetSettings
    from dspy_actors.lm.stream_settings import StreamSettings
    from dspy_actors.modules.chain_of_thought import ChainOfThought
    from dspy_actors.modules.embedder import Embedder
    from dspy_actors.modules.module import Module
    from dspy_actors.modules.outcome import Outcome
    from dspy_actors.modules.predict import Predict
    from dspy_actors.modules.program import Program
    from dspy_actors.modules.program_stream import ProgramStream
    from dspy_actors.modules.stream_response import StatusMessage, StreamResponse
    from dspy_actors.optimizers.base import Optimizer
    from dspy_actors.optimizers.bootstrap_few_shot import BootstrapFewShot
    from dspy_actors.optimizers.labeled_few_shot import LabeledFewShot
    from dspy_actors.pieces import TextPiece, ToolCallPiece
    from dspy_actors.quarantine.settings import QuarantineSettings
    from dspy_actors.runner import current_call_id
    from dspy_actors.runtime import Runtime
    from dspy_actors.secret import Secret
    from dspy_actors.signature.fields import InputField, OutputField
    from dspy_actors.signature.signature import Signature, make_signature
    from dspy_actors.streaming.status_messages import StatusMessageProvider
    from dspy_actors.streaming.stream_consumer import StreamConsumer
    from dspy_actors.streaming.stream_listener import StreamListener
    from dspy_actors.streaming.stream_producer import StreamProducer
    from dspy_actors.streaming.streamify import streamify, streaming_response
    from dspy_actors.types.image import Image

_ROOMS = {
    "adapters.base": "Adapter",
    "adapters.chat_adapter": "ChatAdapter",
    "adapters.json_adapter": "JSONAdapter",
    "batch": "Mapped",
    "errors": "AdapterParseError BlockingCall BudgetExceeded Busy CircuitOpen DeadlineExceeded DspyActorsError "
    "EvaluationError InputError LMConfigurationError LMError NameTaken NoRuntime ShuttingDown "
    "SignatureError StateError QuarantineError QuarantinedInput UnknownProgram UnknownTenant",
    "evaluation.evaluate": "Evaluate Progress",
    "evaluation.result": "EvaluationResult",
    "example": "Example Prediction",
    "lm.breaker_settings": "FIVE_IN_A_ROW BreakerSettings",
    "lm.budget": "Budget",
    "lm.fairness": "Fairness",
    "lm.guarding": "Guarding",
    "lm.hedge": "Hedge",
    "lm.limiter": "LimiterSettings",
    "lm.lm": "Fallback LM",
    "lm.lm_stream": "LMStream",
    "lm.pool_settings": "PoolSettings",
    "lm.prices": "Price",
    "lm.retry_budget": "RetryBudgetSettings",
    "lm.stream_settings": "StreamSettings",
    "modules.chain_of_thought": "ChainOfThought",
    "modules.embedder": "Embedder",
    "modules.module": "Module",
    "modules.outcome": "Outcome",
    "modules.predict": "Predict",
    "modules.program": "Program",
    "modules.program_stream": "ProgramStream",
    "modules.stream_response": "StatusMessage StreamResponse",
    "optimizers.base": "Optimizer",
    "optimizers.bootstrap_few_shot": "BootstrapFewShot",
    "optimizers.labeled_few_shot": "LabeledFewShot",
    "pieces": "TextPiece ToolCallPiece",
    "quarantine.settings": "QuarantineSettings",
    "runner": "current_call_id",
    "runtime": "Runtime",
    "secret": "Secret",
    "signature.fields": "InputField OutputField",
    "signature.signature": "Signature make_signature",
    "streaming.status_messages": "StatusMessageProvider",
    "streaming.stream_consumer": "StreamConsumer",
    "streaming.stream_listener": "StreamListener",
    "streaming.stream_producer": "StreamProducer",
    "streaming.streamify": "streamify streaming_response",
    "types.image": "Image",
}
"""Which file of the package each public name stands in; it is loaded when the name is first asked for."""

_HOMES = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = [
    "FIVE_IN_A_ROW",
    "LM",
    "Adapter",
    "AdapterParseError",
    "BlockingCall",
    "BootstrapFewShot",
    "BreakerSettings",
    "Budget",
    "BudgetExceeded",
    "Busy",
    "ChainOfThought",
    "ChatAdapter",
    "CircuitOpen",
    "DeadlineExceeded",
    "DspyActorsError",
    "Embedder",
    "Evaluate",
    "EvaluationError",
    "EvaluationResult",
    "Example",
    "Fairness",
    "Fallback",
    "Guarding",
    "Hedge",
    "Image",
    "InputError",
    "InputField",
    "JSONAdapter",
    "LMConfigurationError",
    "LMError",
    "LMStream",
    "LabeledFewShot",
    "LimiterSettings",
    "Mapped",
    "Module",
    "NameTaken",
    "NoRuntime",
    "Optimizer",
    "Outcome",
    "OutputField",
    "PoolSettings",
    "Predict",
    "Prediction",
    "Price",
    "Program",
    "ProgramStream",
    "Progress",
    "QuarantineError",
    "QuarantineSettings",
    "QuarantinedInput",
    "RetryBudgetSettings",
    "Runtime",
    "Secret",
    "ShuttingDown",
    "Signature",
    "SignatureError",
    "StateError",
    "StatusMessage",
    "StatusMessageProvider",
    "StreamConsumer",
    "StreamListener",
    "StreamProducer",
    "StreamResponse",
    "StreamSettings",
    "TextPiece",
    "ToolCallPiece",
    "UnknownProgram",
    "UnknownTenant",
    "current_call_id",
    "make_signature",
    "streamify",
    "streaming_response",
]


def __getattr__(name: str) -> object:
    """A public name, from its file (PEP 562): who needs words only does not load what runs them."""
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
