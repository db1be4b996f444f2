"""A model provider on loopback, in a process of its own: it speaks OpenAI's and Anthropic's dialects, fails on demand.

| file | what it holds |
|---|---|
| `client.py` | `StubServer`: starts the process, talks to its control routes |
| `app.py` | the process: routes, control routes, `main` |
| `exchange.py` | one request from arrival to its last byte, faults included |
| `streams.py`, `streaming.py` | an answer as the events of its stream, and their sending |
| `connection.py` | HTTP/1.1 on an `asyncio.Protocol`: keep-alive, framing |
| `faults.py` | what can go wrong, as text (`status=429,retry_after=1`), and the plan that says when |
| `answers.py` | what a healthy answer says: echo, fixed, layout, map |
| `layout.py` | reads the outputs a prompt asks for and fills them in |
| `dialects.py` | the APIs: chat completions, responses, messages, embeddings |
| `validate.py`, `validate_*.py` | the strict check of a request body, for each API |
| `pace.py` | a rate limit that is kept and told of |
| `counters.py` | what was seen: requests, peak, aborts, last bodies |
"""
