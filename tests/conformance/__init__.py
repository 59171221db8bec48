"""Kubernetes' own end-to-end specs against our node: choose, run in parallel, watch, resume, write down the results.

`selection` says which specs, `journal` reads what each did, `results` renders the outcome (these three are pure),
`suite` runs the test binary. The command line is `python -m tests.conformance`.
The harness knows the specs by name only; nothing in the product knows them at all.
"""
