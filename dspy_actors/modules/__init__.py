"""Modules: what a user declares, and the actor that stands for a started one."""
