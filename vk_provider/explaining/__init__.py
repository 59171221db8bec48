"""Answers `net explain` in the provider: asks the compiled tables, the API server and the agent. Part of the
composition: connects `explain` with the records of pods, `networking` and agents.

`pods` describes records and foreign pods, `sources` is who is asked, `question` goes from a target to what is known of
it, `explainer` is what the kubelet API calls.
"""
