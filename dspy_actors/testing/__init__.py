"""Helpers for tests: programs without a network, and the contracts of providers, adapters and transports as checks.

**A program** is tested with a provider that answers from a script:

    >>> from dspy_actors import JSONAdapter, Predict, Runtime
    >>> from dspy_actors.testing.providers import ScriptedProvider
    >>> provider = ScriptedProvider(['{"answer": "yes"}'])
    >>> with Runtime("scripted/m", adapter=JSONAdapter(), open_provider=lambda config: provider) as rt:
    ...     print(rt.start(Predict("question -> answer"))(question="Are you there?").answer)
    yes
    >>> "Are you there?" in provider.requests[0].messages[-1].text
    True

What there is, by its file; import it from there:

    providers.ScriptedProvider      answers from a list or a function: texts, whole answers, errors, lines of streams
    providers.scripted_response     a whole answer that says a text, with tokens counted
    providers.check_provider        the contract of a `Provider`, of your own too
    scripted_stream.ScriptedStream  a stream that says a script's lines; a `ScriptedProvider` makes them
    sent_count.SentCount            hears how often a provider says that its request is on its way
    adapters.check_adapter          the contract of an `Adapter`
    transports.check_transport      the contract of a transport; `TRANSPORT_CHECKS` are its checks one by one
    peer.Peer                       an HTTP server on the test's own loop that does what it is told, byte by byte

Time is `Runtime(clock=ManualClock())` of `supervisors`, which stands still until `clock.advance(seconds)`. Waits, event
logs and checks for what was left behind are in `supervisors.testing`; its pytest plugin has fixtures for actors.
"""
