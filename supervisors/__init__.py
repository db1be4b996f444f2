"""Erlang/OTP's supervision design on pykka: actors, supervision trees, a registry, tasks."""
