"""The LM layer: transports and providers below, workers and the LM value above."""
